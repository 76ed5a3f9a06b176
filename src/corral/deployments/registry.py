"""The registry of deployments: which one computes for a model, how many runs use it, and whether it is loaded."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from corral.catalog.model import CatalogModel
from corral.core.errors import CorralError, DeploymentInUse, UnknownDeployment
from corral.deployments.deployment import Deployment, LoadPolicy
from corral.deployments.loader import PATIENCE_S, Loader
from corral.deployments.memory import MemoryBudget
from corral.deployments.slot import Residence, Slot
from corral.deployments.status import DeploymentStatus
from corral.engines.stats import EnginePhase

UNLIMITED_BYTES = 2**62


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCounts:
    """Tokens that engines emitted since the server started; see ``EngineStats`` for each."""

    emitted: int
    delivered: int
    discarded: int
    replayed: int


class Deployments:
    """Every deployment of this server, by name."""

    def __init__(
        self,
        deployments: Iterable[Deployment],
        models: Iterable[CatalogModel] = (),
        *,
        memory_bytes: int = UNLIMITED_BYTES,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """Register deployments; nothing is loaded before ``run``.

        Args:
            deployments: with unique names.
            models: all that the catalog serves with them.
            memory_bytes: that they may use together.
            patience_s: see ``PATIENCE_S``.
        """
        self._slots = {one.name: Slot(one) for one in deployments}
        self._models = tuple(models)
        self._loader = Loader(self._slots.values(), MemoryBudget(memory_bytes), patience_s=patience_s)

    def __iter__(self) -> Iterator[Deployment]:
        """Iterate in the order of the settings."""
        return (slot.deployment for slot in self._slots.values())

    def serving(self, model: CatalogModel) -> Deployment:
        """Get the deployment of a catalog model."""
        return self._slots[model.deployment].deployment

    def hold(self, deployment: Deployment) -> None:
        """Count one more run that uses the deployment, until ``release``; meanwhile it is not unloaded."""
        self._slots[deployment.name].uses += 1

    def request_load(self, deployment: Deployment) -> None:
        """Begin to load the deployment, unless it is loaded; a load that failed for lack of memory is tried again."""
        self._slots[deployment.name].want()

    def release(self, deployment: Deployment) -> None:
        """Decrement the number of runs that use the deployment."""
        slot = self._slots[deployment.name]
        slot.uses -= 1
        if not slot.uses:
            slot.used_at_s = asyncio.get_running_loop().time()
            self._loader.changed()
            self._loader.watch_idleness(slot)

    async def loaded(self, deployment: Deployment) -> None:
        """Load the deployment if needed, and wait until it is loaded.

        Raises:
            CheckpointRefused, EngineUnavailable: it cannot be loaded.
        """
        self._slots[deployment.name].want()
        await deployment.engine.ready()

    async def started(self) -> CorralError | None:
        """Return when each deployment that is loaded at the start is ready or has failed.

        Returns why none can serve, which is the first one's reason; None if one can.
        """
        refusals: list[CorralError] = []
        for slot in self._slots.values():
            if slot.deployment.load is LoadPolicy.START:
                try:
                    await slot.deployment.engine.ready()
                except CorralError as error:
                    refusals.append(error)
        return refusals[0] if refusals and not self.ready else None

    def expected_load_s(self, name: str) -> float | None:
        """Seconds until a pending load ends, by earlier loads; None if unknown."""
        return self._loader.expected_load_s(self._slots[name])

    def statuses(self) -> tuple[DeploymentStatus, ...]:
        """Snapshot of each deployment, in the order of the settings."""
        return tuple(map(self._status_of, self._slots.values()))

    def status(self, name: str) -> DeploymentStatus:
        """Snapshot of the deployment *name*.

        Raises:
            UnknownDeployment: no deployment has that name.
        """
        return self._status_of(self._get(name))

    def status_of(self, model: CatalogModel) -> DeploymentStatus:
        """Snapshot of the deployment that computes for *model*."""
        return self._status_of(self._slots[model.deployment])

    async def load(self, name: str) -> None:
        """Start loading a deployment; returns at once. Does nothing if it is loaded or being loaded.

        Raises:
            UnknownDeployment: no deployment has that name.
        """
        slot = self._get(name)
        if slot.residence is Residence.IN and slot.state().phase is EnginePhase.FAILED:
            self._loader.tell_to_leave(slot)
            await slot.left.wait()
        slot.want()

    async def unload(self, name: str, *, drain: bool = False) -> None:
        """Unload a deployment and free its memory; the next request or ``load`` loads it again.

        Args:
            name: of the deployment.
            drain: wait until its runs have ended, while new requests wait for the next load.

        Raises:
            UnknownDeployment: no deployment has that name.
            DeploymentInUse: runs use it, and *drain* is false.
        """
        slot = self._get(name)
        if drain:
            await self._loader.drain(slot)
            return
        if slot.uses:
            raise DeploymentInUse(name, runs=slot.uses)
        if slot.residence is not Residence.OUT:
            self._loader.tell_to_leave(slot)
            await slot.left.wait()
        else:
            slot.wanted.clear()

    @property
    def ready(self) -> bool:
        """Whether a deployment can answer the next request, or is loaded for it."""
        return any(map(_can_serve, self._slots.values()))

    @property
    def failed(self) -> bool:
        """Whether no deployment could be loaded."""
        return all(slot.state().phase is EnginePhase.FAILED for slot in self._slots.values())

    @property
    def recovering(self) -> bool:
        """Whether every deployment computes runs that crashed workers alone."""
        return all(one.engine.stats().recovering for one in self)

    def token_counts(self) -> TokenCounts:
        """Tokens of all deployments together."""
        stats = [one.engine.stats() for one in self]
        return TokenCounts(
            emitted=sum(one.emitted_tokens for one in stats),
            delivered=sum(one.delivered_tokens for one in stats),
            discarded=sum(one.discarded_tokens for one in stats),
            replayed=sum(one.replayed_tokens for one in stats),
        )

    @asynccontextmanager
    async def run(self) -> AsyncGenerator[None]:
        """Load and run deployments while the block is active; loading continues in the background."""
        async with asyncio.TaskGroup() as tasks:
            for slot in self._slots.values():
                if slot.deployment.load is LoadPolicy.START:
                    slot.want()
            keeping = [tasks.create_task(self._loader.keep(slot)) for slot in self._slots.values()]
            try:
                yield
            finally:
                for deployment in self:
                    deployment.engine.close_admission()
                for task in keeping:
                    task.cancel()

    def _get(self, name: str) -> Slot:
        try:
            return self._slots[name]
        except KeyError:
            raise UnknownDeployment(name, known=list(self._slots)) from None

    def _status_of(self, slot: Slot) -> DeploymentStatus:
        deployment = slot.deployment
        stats, info = deployment.engine.stats(), deployment.engine.loaded
        models = [model for model in self._models if model.deployment == deployment.name]
        return DeploymentStatus(
            name=deployment.name,
            models=tuple(model.id for model in sorted(models, key=lambda model: model.stands_in)),
            state=slot.state(),
            load=deployment.load,
            idle_unload_s=deployment.idle_unload_s,
            engine=deployment.kind,
            weights=None if info is None else info.weights,
            context_tokens=deployment.limits.context_tokens,
            running=stats.running,
            waiting=stats.waiting,
            memory_bytes=deployment.memory_bytes,
            workers=stats.workers,
        )


def _can_serve(slot: Slot) -> bool:
    phase = slot.state().phase
    return phase is EnginePhase.READY or (
        slot.deployment.load is LoadPolicy.ON_DEMAND and phase is not EnginePhase.FAILED
    )
