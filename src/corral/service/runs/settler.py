"""Settles runs, retrying until the database can be written."""

import asyncio
from dataclasses import replace
from typing import Final

import structlog

from corral.core.errors import EngineFailed, Overloaded, StorageUnavailable
from corral.core.generation import GenerationEvent
from corral.core.prediction import Status, StoppedBy
from corral.service.runs.active import ActiveRuns
from corral.service.runs.journal import Journal
from corral.service.runs.run import ActiveRun, Outcome
from corral.store.databases.failures import StoreFailed

_log = structlog.get_logger(__name__)

SETTLE_AGAIN_S: Final = 1.0
"""Delay before a settlement is retried."""


class Settler:
    """Writes settlements through the journal and knows which of them the database could not write yet."""

    def __init__(self, journal: Journal, runs: ActiveRuns) -> None:
        self._journal = journal
        self._runs = runs
        self._unsettled: dict[str, str] = {}
        """Ids of runs that have ended and wait for the database, with the reason."""

    @property
    def failure(self) -> str | None:
        """Why a settlement could not be written; None if none waits for the database."""
        return next(iter(self._unsettled.values()), None)

    async def settle(self, active: ActiveRun, outcome: Outcome, last: list[GenerationEvent]) -> None:
        """Settle as soon as the database can be written; without the output if the database refuses that.

        Raises:
            Overloaded, StorageUnavailable: the database cannot be written while the server stops.
            StoreFailed: the database refuses even the settlement without output.
        """
        with_output, is_logged = True, False
        try:
            while True:
                try:
                    return await self._journal.settle(active, outcome, last, with_output=with_output)
                except (Overloaded, StorageUnavailable) as error:
                    if not self._runs.is_open:
                        raise
                    if not is_logged:
                        _log.warning("settlement_retry", prediction=active.id, reason=str(error))
                    is_logged = True
                    if isinstance(error, StorageUnavailable):
                        self._unsettled[active.id] = str(error)
                except StoreFailed as error:
                    if not with_output:
                        raise
                    _log.error("settlement_refused", prediction=active.id, reason=str(error))
                    failure = EngineFailed("The result could not be stored.")
                    outcome = replace(outcome, status=Status.FAILED, stopped_by=StoppedBy.ENGINE, error=failure)
                    with_output = False
                await asyncio.sleep(SETTLE_AGAIN_S)
        finally:
            self._unsettled.pop(active.id, None)
