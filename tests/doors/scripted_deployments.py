"""A deployment registry whose states a test sets."""

from typing import cast

from corral.core.errors import UnknownDeployment
from corral.deployments.deployment import LoadPolicy
from corral.deployments.registry import Deployments
from corral.deployments.status import DeploymentStatus
from corral.engines.stats import EnginePhase, EngineState, WorkerStats
from corral.service.deployments import DeploymentAdmin

PATH_IN_REASON = "/srv/models/secret-project/model.safetensors"
READY = EngineState(EnginePhase.READY)
LOADING = EngineState(EnginePhase.LOADING, percent=40.0)
UNLOADED = EngineState(EnginePhase.UNLOADED)
FAILED = EngineState(EnginePhase.FAILED, reason=f"{PATH_IN_REASON}: the file ends early.")


def status(name: str, state: EngineState = READY, *models: str) -> DeploymentStatus:
    """Create a deployment status."""
    return DeploymentStatus(
        name=name,
        models=models,
        state=state,
        load=LoadPolicy.ON_DEMAND,
        idle_unload_s=600.0,
        engine="openvino",
        weights="int8",
        context_tokens=512,
        running=2,
        waiting=1,
        memory_bytes=7 * 2**30,
        workers=(WorkerStats(state=state, pid=123, restarts=1, deaths=2, running=2),),
    )


class ScriptedDeployments:
    """Returns ``states``; load and unload raise ``error`` if it is set."""

    def __init__(self, *states: DeploymentStatus) -> None:
        self.states = {state.name: state for state in states}
        self.error: Exception | None = None
        self.calls: list[tuple[object, ...]] = []

    @property
    def admin(self) -> DeploymentAdmin:
        """The real use cases on top of it."""
        return DeploymentAdmin(cast("Deployments", self))

    def statuses(self) -> tuple[DeploymentStatus, ...]:
        return tuple(self.states.values())

    def status(self, name: str) -> DeploymentStatus:
        if name not in self.states:
            raise UnknownDeployment(name, known=list(self.states))
        return self.states[name]

    async def load(self, name: str) -> None:
        self.status(name)
        self.calls.append(("load", name))
        if self.error is not None:
            raise self.error

    async def unload(self, name: str, *, drain: bool = False) -> None:
        self.status(name)
        self.calls.append(("unload", name, drain))
        if self.error is not None:
            raise self.error
