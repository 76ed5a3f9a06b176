"""Loops that run as long as the server: storing the progress of runs, and deleting expired data."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

import structlog

from corral.core.errors import CorralError, StorageUnavailable
from corral.service.runs.active import ActiveRuns
from corral.service.runs.journal import Journal
from corral.store import files
from corral.store.databases.failures import StoreFailed
from corral.store.runs import claims, predictions
from corral.store.store import Store

_log = structlog.get_logger(__name__)

FLUSH_INTERVAL_S: Final = 0.25
"""What a crash of the gateway can lose of a stream's log; a resumed run computes it again."""
PURGE_INTERVAL_S: Final = 60.0


class FlushLoop:
    """Stores the progress of active runs every FLUSH_INTERVAL_S, and token counters while there are none."""

    def __init__(self, store: Store, journal: Journal, runs: ActiveRuns) -> None:
        self._store = store
        self._journal = journal
        self._runs = runs

    async def run(self) -> None:
        """Flush until cancelled; failures are logged and retried."""
        while True:
            await asyncio.sleep(FLUSH_INTERVAL_S)
            try:
                await self._flush()
            except StorageUnavailable:
                continue  # logged by the store, and shown by ``ServerHealth``
            except (CorralError, StoreFailed) as error:
                _log.warning("flush_failed", reason=str(error))

    async def _flush(self) -> None:
        if self._store.failure is not None:
            await self._journal.probe()
        if active := list(self._runs):
            await self._journal.flush(active, skip_busy=True)  # a slow write must not delay the other runs
        else:
            await self._journal.balance()


class PurgeLoop:
    """Deletes expired files, and text and idempotency keys of predictions that ended *retention_s* ago."""

    def __init__(self, store: Store, clock: Callable[[], float], *, retention_s: int) -> None:
        """*clock* is Unix time in seconds; a *retention_s* of 0 keeps text forever."""
        self._store = store
        self._clock = clock
        self._retention_s = retention_s

    async def run(self) -> None:
        """Purge until cancelled; failures are logged and retried."""
        while True:
            try:
                await self._purge_expired()
            except (CorralError, StoreFailed) as error:
                _log.warning("purge_failed", reason=str(error))
            await asyncio.sleep(PURGE_INTERVAL_S)

    async def _purge_expired(self) -> None:
        now_ms = int(self._clock() * 1000)
        purges = [partial(files.purge_expired, now_ms=now_ms)]
        if self._retention_s:
            before_ms = now_ms - 1000 * self._retention_s
            purges.append(partial(predictions.purge_data, before_ms=before_ms))
            purges.append(partial(claims.purge_idempotency_keys, before_ms=before_ms))
        for purge in purges:
            while await self._store.write(purge):  # each transaction deletes a limited number of rows
                pass
