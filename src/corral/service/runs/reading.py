"""Reading predictions: as they stand, at their end, in pages, and their events live or from the log. Knows no SQL."""

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
from corral.service.runs.codec import decode_events
from corral.service.runs.live import LiveRun
from corral.service.runs.log import RunLog
from corral.service.runs.recovery import Recovery
from corral.store.books import usage
from corral.store.runs import predictions, streams
from corral.store.store import Connection, Store

COUNT_AGE_S: Final = 5.0
"""How old the number of a model's runs may be when it is shown."""
_REMOVED: Final = "The prediction's text was removed, or never stored; its counts and cost are kept."


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadableRun:
    """A prediction to read, running or over; see ``ports.Run``."""

    id: str
    created_at_ms: int
    price: Price
    attached: bool
    log: RunLog

    def events(self, *, after: int = 0) -> AsyncIterator[tuple[int, GenerationEvent]]:
        """Every event from the one after *after* on; see ``ports.Run.events``."""
        return self.log.read(after=after)

    def digest(self, number: int) -> str | None:
        """Digest of the token ids up to event *number*; see ``ports.Run.digest``."""
        return self.log.digest(number)


class Readings:
    """The reading half of ``ports.Predictions``."""

    _recovery: Recovery

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._live: dict[str, LiveRun] = {}
        """Runs of this process, from before their claim until after their settlement."""
        self._counts: Mapping[str, int] = {}
        self._counted_at_s = -COUNT_AGE_S

    async def get(self, caller: Caller, prediction_id: str) -> Prediction:
        """One of the account's predictions as it stands now, output so far included."""
        _require_sight(caller)
        return self._as_it_stands(await self._current(partial(self._stored, caller, prediction_id)))

    async def find(self, prediction_id: str) -> Prediction:
        """A prediction as it stands now, whosever it is."""
        find = partial(predictions.find, prediction_id=prediction_id)
        return self._as_it_stands(await self._current(partial(self._store.read, find)))

    async def wait(self, caller: Caller, prediction_id: str, *, timeout_s: float) -> Prediction:
        """One of the account's predictions at its end, or as it stands after *timeout_s*."""
        _require_sight(caller)
        await self._stored(caller, prediction_id)
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                if prediction_id in self._recovery:
                    await self._recovery.over()
                if (live := self._live.get(prediction_id)) is not None:
                    await live.settled.wait()
        return await self.get(caller, prediction_id)

    async def page(self, caller: Caller, wanted: PageRequest = NEWEST) -> list[Prediction]:
        """The account's predictions, newest first."""
        _require_sight(caller)
        terms = asdict(wanted)
        before, limit = terms.pop("before"), terms.pop("limit")
        filters = predictions.Filters(**terms)
        read = partial(predictions.page, account_id=caller.account_id, before=before, filters=filters, limit=limit)
        stored = await self._store.read(read)
        if any(map(self._ended_meanwhile, stored)):
            stored = await self._store.read(read)
        return [self._as_it_stands(one) for one in stored if not self._is_refused(one.id)]

    async def run_counts(self) -> Mapping[str, int]:
        """How many predictions each model has ended; counted anew when the last count is older than some seconds."""
        now_s = self._clock()
        if not 0 <= now_s - self._counted_at_s < COUNT_AGE_S:
            sums = await self._store.read(partial(usage.usage, by=("model",)))
            self._counted_at_s, self._counts = now_s, {each.model or "": each.predictions for each in sums}
        return self._counts

    async def attach(self, caller: Caller, prediction_id: str) -> ReadableRun:
        """Read a prediction again: live, or from the log."""
        _require_sight(caller)
        return await self._reopen(caller.account_id, prediction_id, attached=False)

    async def replay(self, prediction_id: str) -> ReadableRun:
        """Read a prediction again, whosever it is."""
        return await self._reopen(None, prediction_id, attached=False)

    async def _reopen(self, account_id: str | None, prediction_id: str, *, attached: bool) -> ReadableRun:
        live = self._live.get(prediction_id)
        if live is not None and account_id in (None, live.ask.caller.account_id):
            return readable(live, attached=attached)

        def read(connection: Connection) -> tuple[Prediction, Price, list[streams.LogRow]]:
            row = predictions.row_of(connection, account_id, prediction_id)
            rows = streams.read_from(connection, prediction_id)
            return predictions.prediction_of(row), predictions.price_in(row), rows

        stored, price, rows = await self._store.read(read)
        if self._ended_meanwhile(stored):
            stored, price, rows = await self._store.read(read)
        if not stored.status.terminal:
            if prediction_id in self._recovery:
                await self._recovery.over()
            if prediction_id not in self._live:
                raise EngineUnavailable("The prediction waits for the next start of the server.")
            return await self._reopen(account_id, prediction_id, attached=attached)
        log = RunLog()
        log.append(event for row in rows for event in decode_events(row.payload))
        removed = stored.data_removed and stored.status is Status.SUCCEEDED
        log.close(DataRemoved(_REMOVED) if removed else error_of(stored.status, stored.error))
        return ReadableRun(id=stored.id, created_at_ms=stored.created_at_ms, price=price, attached=attached, log=log)

    async def _current(self, read: Callable[[], Awaitable[Prediction]]) -> Prediction:
        """What *read* returns, or returns when asked again, if the run ended after its row was read."""
        stored = await read()
        return await read() if self._ended_meanwhile(stored) else stored

    def _ended_meanwhile(self, stored: Prediction) -> bool:
        """Whether the row is older than the run's end: it has no output yet, and no live run that holds it."""
        return not stored.status.terminal and stored.id not in self._live and stored.id not in self._recovery

    def _is_refused(self, prediction_id: str) -> bool:
        """Whether its caller was answered with an error; it is listed no more, though not settled yet."""
        live = self._live.get(prediction_id)
        return live is not None and live.never_admitted

    def _as_it_stands(self, stored: Prediction) -> Prediction:
        """A running prediction with what it has emitted so far."""
        live = self._live.get(stored.id)
        if live is None or stored.status.terminal:
            return stored
        admitted_at_ms = stored.admitted_at_ms or live.admitted_at_ms
        if not len(live.log):
            return replace(stored, admitted_at_ms=admitted_at_ms)
        return replace(
            stored,
            status=Status.PROCESSING,
            output=None if stored.data_removed else live.chunks,
            completion_tokens=live.usage.completion_tokens,
            started_at_ms=stored.started_at_ms or live.started_at_ms,
            admitted_at_ms=admitted_at_ms,
        )

    async def _stored(self, caller: Caller, prediction_id: str) -> Prediction:
        find = partial(predictions.get, account_id=caller.account_id, prediction_id=prediction_id)
        return await self._store.read(find)


def _require_sight(caller: Caller) -> None:
    """Refuse a key that may neither run models nor read."""
    if Scope.INFERENCE not in caller.scopes:
        caller.require(Scope.READ, Scope.INFERENCE)


def readable(live: LiveRun, *, attached: bool = False) -> ReadableRun:
    """A run as a reader has it; *attached* where an idempotency key led to it."""
    return ReadableRun(id=live.id, created_at_ms=live.created_at_ms, price=live.price, attached=attached, log=live.log)


def error_of(status: Status, error: str | None) -> CorralError | None:
    """What readers of a prediction that ended so get after its last event."""
    match status:
        case Status.SUCCEEDED:
            return None
        case Status.CANCELED:
            return Canceled("The prediction was canceled.")
        case _:
            return EngineFailed(error or "The prediction failed.")
