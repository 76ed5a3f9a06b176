"""What an earlier process of this server left unfinished: settled for what it emitted, or gone on with.

Whoever takes a prediction out of here settles it or makes it live, so nothing is done twice. Knows no HTTP and no SQL.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, TypeVar

import structlog

from corral.core.errors import CorralError, EngineFailed, Overloaded, StorageUnavailable, UnknownModel
from corral.core.generation import GenerationEvent
from corral.core.prediction import Status, StoppedBy
from corral.service.ports import Ask
from corral.service.runs.codec import ask_of, decode_events
from corral.service.runs.journal import Journal
from corral.service.runs.live import Outcome
from corral.service.runs.prepare import Prepared, Preparer
from corral.store.runs import settlements, streams
from corral.store.store import Store

_log = structlog.get_logger(__name__)

T = TypeVar("T")
AGAIN_S: Final = 1.0
"""What the database could not do is tried again after this long."""
GoOn = Callable[[settlements.Unfinished, Ask, Prepared, list[GenerationEvent]], None]
"""Makes a prediction live again, given what was stored of it."""


class Recovery:
    """The predictions that were found unfinished at the start, until each is settled or live again."""

    def __init__(self, *, store: Store, journal: Journal, preparer: Preparer, go_on: GoOn) -> None:
        self._store = store
        self._journal = journal
        self._preparer = preparer
        self._go_on = go_on
        self._left: dict[str, settlements.Unfinished] = {}
        self._over = asyncio.Event()

    def __contains__(self, prediction_id: str) -> bool:
        return prediction_id in self._left

    async def find(self) -> None:
        """Look for what was left. To be done before any claim of this process, which would be found as well."""
        left = await self._store.read(settlements.unfinished)
        self._left = {one.prediction.id: one for one in left}

    async def over(self) -> None:
        """Return when ``run`` has done what it could."""
        await self._over.wait()

    async def run(self) -> None:
        """Settle what nobody waits for; make background runs live again once there is an engine.

        Without an engine nothing goes on, and what is left waits for the next start.
        """
        try:
            for left in list(self._left.values()):
                if not left.prediction.background or left.prediction.input is None:
                    await self._give_up(left, "nobody waits for it, or its text is not kept")
            by_model: dict[str, list[settlements.Unfinished]] = {}
            for left in self._left.values():
                by_model.setdefault(left.prediction.model, []).append(left)
            async with asyncio.TaskGroup() as tasks:  # no model waits for another's engine
                for model, of_model in by_model.items():
                    tasks.create_task(self._run_model(model, of_model))
        finally:
            self._over.set()

    async def _run_model(self, model: str, unfinished: Sequence[settlements.Unfinished]) -> None:
        try:
            await self._preparer.ready(model)
        except UnknownModel:
            for left in unfinished:
                await self._give_up(left, "its model is not served now")
        except CorralError as error:
            _log.warning("runs_not_taken_up", model=model, count=len(unfinished), reason=str(error))
        else:
            for left in unfinished:
                if left.prediction.id in self._left:
                    await self._take_up(left)

    async def cancel(self, prediction_id: str) -> bool:
        """Settle a prediction that is not live again yet, as its caller wishes; False if it is not here."""
        left = self._left.pop(prediction_id, None)
        if left is None:
            return False
        try:
            await self._write_off(left, Outcome(status=Status.CANCELED, stopped_by=StoppedBy.CALLER, error=None))
        except (Overloaded, StorageUnavailable):
            self._left[prediction_id] = left
            raise
        return True

    async def _take_up(self, left: settlements.Unfinished) -> None:
        stored = left.prediction
        try:
            ask, events = ask_of(stored), await _until_stored(stored.id, lambda: self._events_of(stored.id))
            prepared = await self._preparer.prepare(ask.request, flow=stored.account_id)
        except Exception as error:  # noqa: BLE001 - the edge of a run: one that cannot be read must not stop the others
            await self._give_up(left, type(error).__name__)
            return
        is_unbegun = stored.weights_id is None and not events and not left.engine_tokens
        if prepared.weights_id != stored.weights_id and not is_unbegun:
            await self._give_up(left, "other weights are served now")
        elif prepared.prompt_digest != stored.prompt_digest:
            await self._give_up(left, "its prompt would be other token ids now")
        elif self._left.pop(stored.id, None) is not None:
            self._go_on(left, ask, prepared, events)

    async def _give_up(self, left: settlements.Unfinished, reason: str) -> None:
        if self._left.pop(left.prediction.id, None) is None:
            return
        _log.warning("run_not_taken_up", prediction=left.prediction.id, reason=reason)
        failure = EngineFailed("The server was restarted.")
        outcome = Outcome(status=Status.FAILED, stopped_by=StoppedBy.RESTART, error=failure)
        try:
            await _until_stored(left.prediction.id, lambda: self._write_off(left, outcome))
        except Exception:  # noqa: BLE001 - the edge of a run, as above
            _log.exception("run_not_settled", prediction=left.prediction.id)

    async def _write_off(self, left: settlements.Unfinished, outcome: Outcome) -> None:
        await self._journal.write_off(left, await self._events_of(left.prediction.id), outcome)

    async def _events_of(self, prediction_id: str) -> list[GenerationEvent]:
        rows = await self._store.read(partial(streams.read_from, prediction_id=prediction_id))
        return [event for row in rows for event in decode_events(row.payload)]


async def _until_stored(prediction_id: str, attempt: Callable[[], Awaitable[T]]) -> T:
    """Try *attempt* until the database can be written; every attempt recognises what an earlier one did."""
    while True:
        try:
            return await attempt()
        except (Overloaded, StorageUnavailable) as error:
            _log.warning("recovery_retry", prediction=prediction_id, reason=str(error))
        await asyncio.sleep(AGAIN_S)
