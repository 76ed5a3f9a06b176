"""Recovery after a restart: unfinished predictions of an earlier process are resumed, or settled for what is stored.

Code that removes a prediction from the registry settles or resumes it, so that nothing is done twice.
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
from corral.service.runs.prepare import Prepared, Preparer
from corral.service.runs.run import Outcome
from corral.store.runs import settlements, streams
from corral.store.store import Store

_log = structlog.get_logger(__name__)

T = TypeVar("T")
AGAIN_S: Final = 1.0
"""Delay before a failed read or write of the database is retried."""
Resume = Callable[[settlements.Unfinished, Ask, Prepared, list[GenerationEvent]], None]
"""Starts a run that continues after its stored events; ``PredictionRunner.resume``."""


class Recovery:
    """Predictions that were unfinished when this process started, until each is resumed or settled."""

    def __init__(self, *, store: Store, journal: Journal, preparer: Preparer) -> None:
        self._store = store
        self._journal = journal
        self._preparer = preparer
        self._unfinished: dict[str, settlements.Unfinished] = {}
        self._ended = asyncio.Event()

    def __contains__(self, prediction_id: str) -> bool:
        return prediction_id in self._unfinished

    async def find(self) -> None:
        """Read the unfinished predictions. Must come before this process's first claim, which would be found too."""
        unfinished = await self._store.read(settlements.unfinished)
        self._unfinished = {one.prediction.id: one for one in unfinished}

    async def ended(self) -> None:
        """Return when ``run`` has ended."""
        await self._ended.wait()

    async def run(self, resume: Resume) -> None:
        """Settle predictions that no caller waits for; resume background ones once their engine is ready.

        Without an engine they stay unfinished until the next start.
        """
        try:
            for left in list(self._unfinished.values()):
                if not left.prediction.background or left.prediction.input is None:
                    await self._abandon(left, "no caller waits for it, or its text is not stored")
            by_model: dict[str, list[settlements.Unfinished]] = {}
            for left in self._unfinished.values():
                by_model.setdefault(left.prediction.model, []).append(left)
            async with asyncio.TaskGroup() as tasks:  # a model must not wait for another's engine
                for model, of_model in by_model.items():
                    tasks.create_task(self._recover_model(model, of_model, resume))
        finally:
            self._ended.set()

    async def _recover_model(self, model: str, unfinished: Sequence[settlements.Unfinished], resume: Resume) -> None:
        try:
            await self._preparer.ready(model)
        except UnknownModel:
            for left in unfinished:
                await self._abandon(left, "its model is not served now")
        except CorralError as error:
            _log.warning("resume_postponed", model=model, count=len(unfinished), reason=str(error))
        else:
            for left in unfinished:
                if left.prediction.id in self._unfinished:
                    await self._recover(left, resume)

    async def cancel(self, prediction_id: str) -> bool:
        """Cancel a prediction that is not resumed yet. Returns False if it is not one of an earlier process."""
        left = self._unfinished.pop(prediction_id, None)
        if left is None:
            return False
        try:
            await self._settle(left, Outcome(status=Status.CANCELED, stopped_by=StoppedBy.CALLER, error=None))
        except (Overloaded, StorageUnavailable):
            self._unfinished[prediction_id] = left
            raise
        return True

    async def _recover(self, left: settlements.Unfinished, resume: Resume) -> None:
        stored = left.prediction
        try:
            ask, events = ask_of(stored), await _until_stored(stored.id, lambda: self._events_of(stored.id))
            prepared = await self._preparer.prepare(ask.request, flow=stored.account_id)
        except Exception as error:  # noqa: BLE001 - the edge of a run: one that cannot be read must not stop the others
            await self._abandon(left, type(error).__name__)
            return
        if (obstacle := _obstacle(left, events, prepared)) is not None:
            await self._abandon(left, obstacle)
        elif self._unfinished.pop(stored.id, None) is not None:
            resume(left, ask, prepared, events)

    async def _abandon(self, left: settlements.Unfinished, reason: str) -> None:
        """Settle a prediction that cannot be resumed: it has failed, and what is stored of it is billed."""
        if self._unfinished.pop(left.prediction.id, None) is None:
            return
        _log.warning("run_not_resumed", prediction=left.prediction.id, reason=reason)
        failure = EngineFailed("The server was restarted.")
        outcome = Outcome(status=Status.FAILED, stopped_by=StoppedBy.RESTART, error=failure)
        try:
            await _until_stored(left.prediction.id, lambda: self._settle(left, outcome))
        except Exception:  # noqa: BLE001 - the edge of a run, as above
            _log.exception("run_not_settled", prediction=left.prediction.id)

    async def _settle(self, left: settlements.Unfinished, outcome: Outcome) -> None:
        await self._journal.settle_unfinished(left, await self._events_of(left.prediction.id), outcome)

    async def _events_of(self, prediction_id: str) -> list[GenerationEvent]:
        rows = await self._store.read(partial(streams.read_from, prediction_id=prediction_id))
        return [event for row in rows for event in decode_events(row.payload)]


def _obstacle(left: settlements.Unfinished, events: Sequence[GenerationEvent], prepared: Prepared) -> str | None:
    """Explain why a prediction cannot be resumed with the same result; None if it can."""
    stored = left.prediction
    is_started = stored.weights_id is not None or bool(events) or bool(left.engine_tokens)
    if is_started and stored.weights_id is None:
        return "an earlier version stored it, without the id of its weights"
    if is_started and prepared.weights_id != stored.weights_id:
        return "other weights are served now"
    if stored.prompt_digest is None:
        return "an earlier version stored it, without the digest of its prompt"
    if prepared.prompt_digest != stored.prompt_digest:
        return "its prompt would be other token ids now"
    return None


async def _until_stored(prediction_id: str, attempt: Callable[[], Awaitable[T]]) -> T:
    """Retry *attempt* until the database can be reached. It must recognise what an earlier attempt committed."""
    while True:
        try:
            return await attempt()
        except (Overloaded, StorageUnavailable) as error:
            _log.warning("recovery_retry", prediction=prediction_id, reason=str(error))
        await asyncio.sleep(AGAIN_S)
