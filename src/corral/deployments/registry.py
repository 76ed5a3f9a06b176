"""The registry of deployments: which one computes for a model, and how many runs use it."""

from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from corral.catalog.model import CatalogModel
from corral.core.errors import CorralError, DeploymentInUse, UnknownDeployment
from corral.deployments.deployment import Deployment, LoadPolicy
from corral.deployments.status import DeploymentStatus
from corral.engines.base import EngineInfo
from corral.engines.stats import EnginePhase, EngineState


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCounts:
    """Tokens that engines emitted since the server started; see ``EngineStats`` for each."""

    emitted: int
    delivered: int
    discarded: int
    replayed: int


class Deployments:
    """Every deployment of this server, by name."""

    def __init__(self, deployments: Iterable[Deployment], models: Iterable[CatalogModel] = ()) -> None:
        """Register *deployments*, by unique names; *models* are all that the catalog serves with them."""
        self._by_name = {one.name: one for one in deployments}
        self._models = tuple(models)
        self._uses: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Deployment]:
        """Each once, in the order of the settings."""
        return iter(self._by_name.values())

    def serving(self, model: CatalogModel) -> Deployment:
        """The deployment that computes for a model of the catalog."""
        return self._by_name[model.deployment]

    def hold(self, deployment: Deployment) -> None:
        """Count one more run that uses the deployment, until ``release``."""
        self._uses[deployment.name] += 1

    def release(self, deployment: Deployment) -> None:
        """Count one run less that uses the deployment."""
        self._uses[deployment.name] -= 1

    def statuses(self) -> tuple[DeploymentStatus, ...]:
        """Snapshot of each deployment, in the order of the settings."""
        return tuple(map(self._status_of, self))

    def status(self, name: str) -> DeploymentStatus:
        """Snapshot of the deployment *name*.

        Raises:
            UnknownDeployment: there is none of that name.
        """
        return self._status_of(self._get(name))

    def status_of(self, model: CatalogModel) -> DeploymentStatus:
        """Snapshot of the deployment that computes for *model*."""
        return self._status_of(self.serving(model))

    def state_of(self, model: CatalogModel) -> EngineState:
        """State of the deployment that computes for *model*."""
        return self._state_of(self.serving(model))

    async def load(self, name: str) -> None:
        """Begin to load a deployment; returns at once. Does nothing if it is loaded or being loaded.

        Raises:
            UnknownDeployment: there is none of that name.
        """
        self._get(name)

    async def unload(self, name: str, *, drain: bool = False) -> None:
        """Unload a deployment and free its memory; the next request or ``load`` loads it again.

        Args:
            name: of the deployment.
            drain: wait until its runs are over, while new requests wait for the next load.

        Raises:
            UnknownDeployment: there is none of that name.
            DeploymentInUse: runs use it, and *drain* is false.
        """
        deployment = self._get(name)
        if self._uses[deployment.name] and not drain:
            raise DeploymentInUse(name, runs=self._uses[deployment.name])

    def _get(self, name: str) -> Deployment:
        try:
            return self._by_name[name]
        except KeyError:
            raise UnknownDeployment(name, known=list(self._by_name)) from None

    def _state_of(self, deployment: Deployment) -> EngineState:
        return deployment.engine.stats().state

    def _status_of(self, deployment: Deployment) -> DeploymentStatus:
        stats, info = deployment.engine.stats(), _info_of(deployment)
        models = sorted((model.stands_in, index) for index, model in self._models_of(deployment))
        return DeploymentStatus(
            name=deployment.name,
            models=tuple(self._models[index].id for _, index in models),
            state=self._state_of(deployment),
            load=deployment.load,
            idle_unload_s=deployment.idle_unload_s,
            engine=deployment.kind,
            weights=None if info is None else info.weights,
            context_tokens=0 if info is None else info.context_tokens,
            running=stats.running,
            waiting=stats.waiting,
            memory_bytes=deployment.memory_bytes,
            workers=stats.workers,
        )

    def _models_of(self, deployment: Deployment) -> Iterator[tuple[int, CatalogModel]]:
        return ((i, model) for i, model in enumerate(self._models) if model.deployment == deployment.name)

    @property
    def ready(self) -> bool:
        """Whether a deployment can answer the next request, if need be after a load on demand."""
        return any(self._can_answer(one) for one in self)

    @property
    def failed(self) -> bool:
        """Whether no deployment could be loaded."""
        return all(self._state_of(one).phase is EnginePhase.FAILED for one in self)

    def _can_answer(self, deployment: Deployment) -> bool:
        phase = self._state_of(deployment).phase
        on_demand = deployment.load is LoadPolicy.ON_DEMAND
        return phase is EnginePhase.READY or (on_demand and phase is not EnginePhase.FAILED)

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
        """Load and compute while the block is active; loading goes on in the background."""
        async with AsyncExitStack() as stack:
            for deployment in self:
                await stack.enter_async_context(deployment.engine.run())
            yield


def _info_of(deployment: Deployment) -> EngineInfo | None:
    """What is loaded; None before the first load."""
    try:
        return deployment.engine.info
    except CorralError:
        return None
