"""Read predictions: get, wait, list, and their events, live or from the stored log."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Final

from corral.core.accounts import Scope
from corral.core.caller import Caller
from corral.core.errors import Canceled, CorralError, DataRemoved, EngineFailed, EngineUnavailable
from corral.core.generation import GenerationEvent
from corral.core.prediction import Prediction, Status
from corral.core.pricing import Price
from corral.service.ports import NEWEST, PageRequest
from corral.service.runs.active import ActiveRuns
from corral.service.runs.codec import decode_events
from corral.service.runs.log import RunLog
from corral.service.runs.recovery import Recovery
from corral.service.runs.run import ActiveRun
from corral.store.books import usage
from corral.store.runs import predictions, streams
from corral.store.store import Connection, Store

COUNT_AGE_S: Final = 5.0
"""Greatest age of ``run_counts``."""
_REMOVED: Final = "The prediction's text was removed, or never stored; its counts and cost are kept."


@dataclass(frozen=True, slots=True, kw_only=True)
class LogReader:
    """Reads the events of one prediction from its log; see ``ports.PredictionEvents``."""

    id: str
    created_at_ms: int
    price: Price
    attached: bool
    log: RunLog

    @classmethod
    def of(cls, active: ActiveRun) -> "LogReader":
        """Read an active run."""
        run = active.run
        return cls(id=run.id, created_at_ms=run.created_at_ms, price=run.price, attached=False, log=active.log)

    def events(self, *, after: int = 0) -> AsyncIterator[tuple[int, GenerationEvent]]:
        """Yield events numbered above *after*; see ``ports.PredictionEvents.events``."""
        return self.log.read(after=after)

    def digest(self, number: int) -> str | None:
        """Digest of the token ids up to event *number*; see ``ports.PredictionEvents.digest``."""
        return self.log.digest(number)


class PredictionReader:
    """Reads predictions from the store, and from active runs what is not stored yet."""

    def __init__(self, store: Store, clock: Callable[[], float], *, runs: ActiveRuns, recovery: Recovery) -> None:
        """*clock* is Unix time in seconds."""
        self._store = store
        self._clock = clock
        self._runs = runs
        self._recovery = recovery
        self._counts: Mapping[str, int] = {}
        self._counted_at_s = -COUNT_AGE_S

    async def get(self, caller: Caller, prediction_id: str) -> Prediction:
        """Get one of the account's predictions, with its output so far."""
        _require_read(caller)
        return self._with_output(await self._current(partial(self.stored, caller, prediction_id)))

    async def find(self, prediction_id: str) -> Prediction:
        """Get any account's prediction. No ownership check: for operators and signed URLs."""
        find = partial(predictions.find, prediction_id=prediction_id)
        return self._with_output(await self._current(partial(self._store.read, find)))

    async def wait(self, caller: Caller, prediction_id: str, *, timeout_s: float) -> Prediction:
        """Get one of the account's predictions when it has ended, or after *timeout_s*."""
        _require_read(caller)
        await self.stored(caller, prediction_id)
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                if prediction_id in self._recovery:
                    await self._recovery.ended()
                if (active := self._runs.get(prediction_id)) is not None:
                    await active.settled.wait()
        return await self.get(caller, prediction_id)

    async def page(self, caller: Caller, wanted: PageRequest = NEWEST) -> list[Prediction]:
        """List the account's predictions, newest first."""
        _require_read(caller)
        terms = asdict(wanted)
        before, limit = terms.pop("before"), terms.pop("limit")
        filters = predictions.Filters(**terms)
        read = partial(predictions.page, account_id=caller.account_id, before=before, filters=filters, limit=limit)
        stored = await self._store.read(read)
        if any(map(self._ended_meanwhile, stored)):
            stored = await self._store.read(read)
        return [self._with_output(one) for one in stored if not self._is_refused(one.id)]

    async def run_counts(self) -> Mapping[str, int]:
        """Count ended predictions by model id; cached for COUNT_AGE_S."""
        now_s = self._clock()
        if not 0 <= now_s - self._counted_at_s < COUNT_AGE_S:
            sums = await self._store.read(partial(usage.usage, by=("model",)))
            self._counted_at_s, self._counts = now_s, {each.model or "": each.predictions for each in sums}
        return self._counts

    async def attach(self, caller: Caller, prediction_id: str) -> LogReader:
        """Read the events of one of the account's predictions, live or from the stored log."""
        _require_read(caller)
        return await self.open_log(caller.account_id, prediction_id, attached=False)

    async def replay(self, prediction_id: str) -> LogReader:
        """Read the events of any account's prediction. No ownership check: for signed URLs."""
        return await self.open_log(None, prediction_id, attached=False)

    async def open_log(self, account_id: str | None, prediction_id: str, *, attached: bool) -> LogReader:
        """Read a prediction's events, of any account if *account_id* is None; see ``ports.PredictionEvents.attached``.

        Raises:
            UnknownPrediction: the account has no prediction of that id.
            EngineUnavailable: it was interrupted, and this process could not resume it.
        """
        active = self._runs.get(prediction_id)
        if active is not None and account_id in (None, active.run.account_id):
            return replace(LogReader.of(active), attached=attached)

        def read(connection: Connection) -> tuple[Prediction, Price, list[streams.LogRow]]:
            row = predictions.row_of(connection, account_id, prediction_id)
            rows = streams.read_from(connection, prediction_id)
            return predictions.prediction_of(row), predictions.price_in(row), rows

        stored, price, rows = await self._store.read(read)
        if self._ended_meanwhile(stored):
            stored, price, rows = await self._store.read(read)
        if not stored.status.terminal:
            if prediction_id in self._recovery:
                await self._recovery.ended()
            if prediction_id not in self._runs:
                raise EngineUnavailable("Interrupted; it resumes when the server restarts.")
            return await self.open_log(account_id, prediction_id, attached=attached)
        log = RunLog()
        log.append(event for row in rows for event in decode_events(row.payload))
        removed = stored.data_removed and stored.status is Status.SUCCEEDED
        log.close(DataRemoved(_REMOVED) if removed else error_of(stored.status, stored.error))
        return LogReader(id=stored.id, created_at_ms=stored.created_at_ms, price=price, attached=attached, log=log)

    async def _current(self, read: Callable[[], Awaitable[Prediction]]) -> Prediction:
        """Call *read*, and once more if the run ended after its row was read."""
        stored = await read()
        return await read() if self._ended_meanwhile(stored) else stored

    def _ended_meanwhile(self, stored: Prediction) -> bool:
        """Whether the row is older than the run's end: it has no output yet, and no active run has it."""
        return not stored.status.terminal and stored.id not in self._runs and stored.id not in self._recovery

    def _is_refused(self, prediction_id: str) -> bool:
        """Whether its caller was answered with an error; it is not listed, even before it is settled."""
        active = self._runs.get(prediction_id)
        return active is not None and active.never_admitted

    def _with_output(self, stored: Prediction) -> Prediction:
        """Add the output so far to an unfinished prediction."""
        active = self._runs.get(stored.id)
        if active is None or stored.status.terminal:
            return stored
        generation = active.generation
        admitted_at_ms = stored.admitted_at_ms or generation.admitted_at_ms
        if not active.has_output:
            return replace(stored, admitted_at_ms=admitted_at_ms)
        return replace(
            stored,
            status=Status.PROCESSING,
            output=None if stored.data_removed else active.chunks,
            completion_tokens=generation.completion_tokens,
            started_at_ms=stored.started_at_ms or generation.started_at_ms,
            admitted_at_ms=admitted_at_ms,
        )

    async def stored(self, caller: Caller, prediction_id: str) -> Prediction:
        """Get one of the account's predictions as its row is, without output that is not stored yet.

        Raises:
            UnknownPrediction: the account has no prediction of that id.
        """
        find = partial(predictions.get, account_id=caller.account_id, prediction_id=prediction_id)
        return await self._store.read(find)


def _require_read(caller: Caller) -> None:
    """Refuse a key that may neither run models nor read."""
    if Scope.INFERENCE not in caller.scopes:
        caller.require(Scope.READ, Scope.INFERENCE)


def error_of(status: Status, error: str | None) -> CorralError | None:
    """Error that readers of an ended prediction get after its last event; None if it succeeded."""
    match status:
        case Status.SUCCEEDED:
            return None
        case Status.CANCELED:
            return Canceled("The prediction was canceled.")
        case _:
            return EngineFailed(error or "The prediction failed.")
