"""Start and stop of everything that computes and stores runs in this process."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import structlog

from corral.core.errors import CorralError
from corral.service.runs.active import ActiveRuns
from corral.service.runs.background import FlushLoop, PurgeLoop
from corral.service.runs.journal import Journal
from corral.service.runs.recovery import Recovery
from corral.service.runs.runner import PredictionRunner
from corral.store.databases.failures import StoreFailed

_log = structlog.get_logger(__name__)


class RunLifecycle:
    """Runs the background loops and the recovery, and stops active runs with the server."""

    def __init__(
        self,
        *,
        runs: ActiveRuns,
        runner: PredictionRunner,
        recovery: Recovery,
        journal: Journal,
        flush: FlushLoop,
        purge: PurgeLoop,
    ) -> None:
        self._runs = runs
        self._runner = runner
        self._recovery = recovery
        self._journal = journal
        self._flush = flush
        self._purge = purge

    @asynccontextmanager
    async def run(self) -> AsyncGenerator[None]:
        """Accept runs while the block is active. Background runs that it interrupts are resumed by the next start."""
        await self._recovery.find()
        async with asyncio.TaskGroup() as tasks:
            loops = (tasks.create_task(self._flush.run()), tasks.create_task(self._purge.run()))
            try:
                async with self._runs.run():
                    recovering = tasks.create_task(self._recovery.run(self._runner.resume))
                    try:
                        yield
                    finally:
                        recovering.cancel()
            finally:
                await self._store_balance()
                for loop in loops:
                    loop.cancel()

    def refuse_new(self) -> None:
        """Refuse new runs from now on, as the server is being stopped; active ones continue until ``end_runs``."""
        self._runs.refuse_new()

    async def end_runs(self) -> None:
        """Stop every run for the server's restart; return when each is settled, or stored to be resumed."""
        await self._runs.stop_all()
        await self._store_balance()

    async def _store_balance(self) -> None:
        try:
            await self._journal.balance()
        except (CorralError, StoreFailed) as error:  # shows in reconcile; the server stops all the same
            _log.warning("token_count_store_failed", reason=str(error))
