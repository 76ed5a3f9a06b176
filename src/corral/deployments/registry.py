"""The registry of deployments: which one computes for a model, and how many runs use it."""

from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from corral.catalog.model import CatalogModel
from corral.deployments.deployment import Deployment


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCounts:
    """Tokens that engines emitted since the server started; see ``EngineStats`` for each."""

    emitted: int
    delivered: int
    discarded: int
    replayed: int


class Deployments:
    """Every deployment of this server, by name."""

    def __init__(self, deployments: Iterable[Deployment]) -> None:
        self._by_name = {one.name: one for one in deployments}
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

    @property
    def ready(self) -> bool:
        """Whether a deployment can answer the next request."""
        return any(one.ready for one in self)

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
