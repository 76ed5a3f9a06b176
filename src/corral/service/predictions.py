"""The prediction service: one object for all doors, composed of a runner, a reader and the server's health."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager

from corral.catalog.catalog import Catalog
from corral.catalog.model import CatalogModel
from corral.core.caller import Caller
from corral.core.prediction import Prediction
from corral.core.server_state import ServerStatus
from corral.deployments.registry import Deployments
from corral.deployments.status import DeploymentStatus
from corral.service.ports import NEWEST, Ask, Estimate, PageRequest
from corral.service.runs.active import ActiveRuns
from corral.service.runs.background import FlushLoop, PurgeLoop
from corral.service.runs.health import ServerHealth
from corral.service.runs.journal import Journal
from corral.service.runs.lifecycle import RunLifecycle
from corral.service.runs.prepare import Preparer
from corral.service.runs.reading import LogReader, PredictionReader
from corral.service.runs.recovery import Recovery
from corral.service.runs.runner import PredictionRunner
from corral.service.runs.settler import Settler
from corral.store.store import Store


class PredictionService:
    """Implements ``ports.Predictions``. Each method passes to the part that does it."""

    def __init__(
        self,
        *,
        store: Store,
        deployments: Deployments,
        preparer: Preparer,
        clock: Callable[[], float],
        retention_s: int,
        on_webhook: Callable[[], None],
        concurrent_per_model: int = 0,
        max_outage_s: float = 3600,
    ) -> None:
        """Compose the parts; nothing runs before ``lifecycle.run``.

        Args:
            store: the database.
            deployments: what computes.
            preparer: turns requests into engine requests for them.
            clock: Unix time in seconds.
            retention_s: how long text is kept after a run's end; 0 is forever.
            on_webhook: called when a webhook may be due.
            concurrent_per_model: most runs of one model that an account may have at once; 0 is no limit.
            max_outage_s: longest wait of background runs for an engine that cannot be started.
        """
        runs = ActiveRuns(deployments)
        journal = Journal(store, deployments, clock, on_webhook=on_webhook, concurrent_per_model=concurrent_per_model)
        recovery = Recovery(store=store, journal=journal, preparer=preparer)
        settler = Settler(journal, runs)
        self._preparer = preparer
        self._health = ServerHealth(store, deployments, runs, settler)
        self._reader = PredictionReader(store, clock, runs=runs, recovery=recovery)
        self._runner = PredictionRunner(
            preparer=preparer,
            runs=runs,
            journal=journal,
            settler=settler,
            reader=self._reader,
            recovery=recovery,
            health=self._health,
            max_outage_s=max_outage_s,
        )
        self.lifecycle = RunLifecycle(
            runs=runs,
            runner=self._runner,
            recovery=recovery,
            journal=journal,
            flush=FlushLoop(store, journal, runs),
            purge=PurgeLoop(store, clock, retention_s=retention_s),
        )

    @property
    def catalog(self) -> Catalog:
        """The served models."""
        return self._preparer.catalog

    @property
    def status(self) -> ServerStatus:
        """State of the server; see ``ServerHealth``."""
        return self._health.status

    def deployments(self) -> tuple[DeploymentStatus, ...]:
        """Snapshot of each deployment, in the order of the settings."""
        return self._health.deployments()

    def deployment_of(self, model: CatalogModel) -> DeploymentStatus:
        """Snapshot of the deployment that computes for *model*."""
        return self._health.deployment_of(model)

    @property
    def ready(self) -> bool:
        """Whether the next request would be answered at once."""
        return self._health.status.is_ready

    def open(self, ask: Ask) -> AbstractAsyncContextManager[LogReader]:
        """Start a run and read it."""
        return self._runner.open(ask)

    async def estimate(self, ask: Ask) -> Estimate:
        """Price a request without running it."""
        return await self._runner.estimate(ask)

    async def fail(self, ask: Ask, reason: str) -> Prediction:
        """Create a prediction that has failed before anything was run."""
        return await self._runner.fail(ask, reason)

    async def cancel(self, caller: Caller, prediction_id: str) -> Prediction:
        """Stop a prediction if it is running; returns it settled."""
        return await self._runner.cancel(caller, prediction_id)

    async def get(self, caller: Caller, prediction_id: str) -> Prediction:
        """Get one of the account's predictions, with its output so far."""
        return await self._reader.get(caller, prediction_id)

    async def find(self, prediction_id: str) -> Prediction:
        """Get any account's prediction."""
        return await self._reader.find(prediction_id)

    async def wait(self, caller: Caller, prediction_id: str, *, timeout_s: float) -> Prediction:
        """Get one of the account's predictions when it has ended, or after *timeout_s*."""
        return await self._reader.wait(caller, prediction_id, timeout_s=timeout_s)

    async def page(self, caller: Caller, wanted: PageRequest = NEWEST) -> list[Prediction]:
        """List the account's predictions, newest first."""
        return await self._reader.page(caller, wanted)

    async def attach(self, caller: Caller, prediction_id: str) -> LogReader:
        """Read the events of one of the account's predictions."""
        return await self._reader.attach(caller, prediction_id)

    async def replay(self, prediction_id: str) -> LogReader:
        """Read the events of any account's prediction."""
        return await self._reader.replay(prediction_id)

    async def run_counts(self) -> Mapping[str, int]:
        """Count ended predictions by model id."""
        return await self._reader.run_counts()
