"""State of one deployment in the registry: its runs, whether it is requested, whether it is in memory."""

import asyncio
from enum import StrEnum

from corral.core.errors import CorralError
from corral.deployments.deployment import Deployment
from corral.engines.stats import EnginePhase, EngineState


class Residence(StrEnum):
    """Whether a deployment is in memory."""

    OUT = "out"
    """It has none, and its engine does not run."""
    IN = "in"
    """Its memory is reserved, and its engine loads or computes."""
    LEAVING = "leaving"
    """Its engine is stopped as soon as its last sequence ends."""


class Slot:
    """State of one deployment. ``Loader`` changes it; ``Deployments`` counts its runs."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.residence = Residence.OUT
        self.uses = 0
        """Runs between their start and their settlement."""
        self.used_at_s = 0.0
        """When the last of them ended or began, by the event loop's clock."""
        self.wanted = asyncio.Event()
        """Set while it is to be loaded, or is."""
        self.told_to_leave = asyncio.Event()
        self.left = asyncio.Event()
        """Set while it has no memory."""
        self.left.set()
        self.failure: CorralError | None = None
        """Why there was no memory for it; None once it was tried again."""
        self.load_began_s: float | None = None
        """Since when it loads; None while it does not."""
        self.load_ended_s: float | None = None
        """When it was loaded, or could not be; None until then."""
        self.load_took_s: float | None = None
        """Duration of its last load."""

    @property
    def name(self) -> str:
        """Name of the deployment."""
        return self.deployment.name

    @property
    def is_idle(self) -> bool:
        """Whether it can be unloaded now: it is in memory, and no run uses it."""
        return self.residence is Residence.IN and not self.uses

    def want(self) -> None:
        """Request its load, unless it is loaded."""
        if self.failure is not None:
            self.failure = None
            self.deployment.engine.expect_load()
        self.wanted.set()

    def state(self) -> EngineState:
        """State for people."""
        state = self.deployment.engine.stats().state
        if self.residence is not Residence.OUT or state.phase is not EnginePhase.UNLOADED:
            return state
        if self.failure is not None:  # not "failed", for the next request tries again
            return EngineState(EnginePhase.UNLOADED, reason=str(self.failure))
        return EngineState(EnginePhase.WAITING if self.wanted.is_set() else EnginePhase.UNLOADED)
