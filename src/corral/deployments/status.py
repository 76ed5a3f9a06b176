"""Status of a deployment: one snapshot for health checks, pages, commands and the HTTP API."""

from dataclasses import dataclass

from corral.deployments.deployment import LoadPolicy
from corral.engines.stats import EngineState, WorkerStats


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentStatus:
    """Snapshot of one deployment."""

    name: str
    models: tuple[str, ...]
    """Ids of the models it computes for; those it stands in for come last."""
    state: EngineState
    """Its ``reason`` may name files: for operators only; others get ``public_text(state)``."""
    load: LoadPolicy
    idle_unload_s: float | None
    """Seconds without a run after which it is unloaded; None keeps it loaded."""
    engine: str
    """Kind of engine: ``openvino``."""
    weights: str | None
    """Storage of the weights, such as ``int8``; None before the first load."""
    context_tokens: int
    running: int
    """Sequences that are being computed."""
    waiting: int
    """Sequences that wait for a place, or for the load."""
    memory_bytes: int
    """Estimate of what it needs while it is loaded."""
    workers: tuple[WorkerStats, ...]


def public_text(state: EngineState) -> str:
    """The state as text without the reason of a failure: ``loading 40 %``, ``failed``."""
    return str(EngineState(state.phase, state.percent))
