"""Stores runs: claims, progress, settlements, and the engines' token counts for ``reconcile``.

The books are balanced after every write, so a gateway may die after any of them. What is written is copied on the event
loop before a transaction begins: no function that runs on the store's thread reads a run.
"""

import asyncio
import secrets
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

import structlog

from corral.core.errors import CorralError, InvalidRequest, Overloaded, StorageUnavailable
from corral.core.generation import GenerationEvent
from corral.core.prediction import Status, StoppedBy, Webhook
from corral.deployments.registry import Deployments
from corral.service.runs.run import ActiveRun, Outcome
from corral.service.runs.settlement_mapping import (
    Numbered,
    addressee_of,
    claim_of,
    emitted_before,
    emitted_by,
    emitted_never,
    news_of,
    rows_of,
    settlement_of,
    without_output,
)
from corral.store.books import counters
from corral.store.databases.failures import StoreFailed
from corral.store.runs import claims, settlements, streams
from corral.store.store import Connection, Store
from corral.store.webhooks import outbox
from corral.store.webhooks.outbox import WebhookTarget

_log = structlog.get_logger(__name__)

_ID_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_ID_LENGTH: Final = 26


def new_prediction_id() -> str:
    """26 characters of base32 without look-alikes: 130 random bits."""
    return "".join(_ID_ALPHABET[byte & 31] for byte in secrets.token_bytes(_ID_LENGTH))


@dataclass(slots=True)
class _Cursor:
    """How much of one run is known to be stored."""

    events: int = 0
    """Events of the log."""
    engine_tokens: int = 0
    is_refused: bool = False
    """Whether the database refused the run's progress; it is then not stored before the run ends."""
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while the run is written, so that no event is stored twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Progress:
    """Snapshot of what a run has emitted beyond its cursor."""

    prediction_id: str
    events: Numbered
    engine_tokens: int
    """All that the engine has emitted for the run, not only the new ones."""
    is_first: bool
    """Whether nothing of the run was stored before."""
    started_at_ms: int | None
    admitted_at_ms: int | None
    weights_id: str | None
    addressee: WebhookTarget | None


def _progress_of(active: ActiveRun, cursor: _Cursor) -> _Progress:
    return _Progress(
        prediction_id=active.id,
        events=active.log.since(cursor.events),
        engine_tokens=active.generation.engine_tokens,
        is_first=cursor.events == 0,
        started_at_ms=active.generation.started_at_ms,
        admitted_at_ms=active.generation.admitted_at_ms,
        weights_id=active.run.prepared.computed_weights_id,
        addressee=addressee_of(active.run),
    )


def _write_one(connection: Connection, progress: _Progress, now_ms: int) -> int:
    """Store the progress of one run; returns the engine tokens that are new to the store.

    After an earlier commit whose answer was lost, the store has more than the cursor says.
    """
    before = streams.progress(connection, progress.prediction_id)
    if before.is_over:
        return 0
    begins = progress.is_first and settlements.record_start(
        connection,
        progress.prediction_id,
        now_ms=progress.started_at_ms or now_ms,
        admitted_at_ms=progress.admitted_at_ms,
        weights_id=progress.weights_id,
    )
    rows = rows_of(progress.events, after_seq=before.last_seq)
    streams.append(connection, progress.prediction_id, rows, engine_tokens=progress.engine_tokens)
    if progress.addressee is not None:
        outbox.enqueue(connection, progress.addressee, news_of(progress.events, begins=begins), now_ms=now_ms)
    return progress.engine_tokens - before.engine_tokens


class Journal:
    """Writes runs to the store. Holds the cursor of each active run."""

    def __init__(
        self,
        store: Store,
        deployments: Deployments,
        clock: Callable[[], float],
        *,
        on_webhook: Callable[[], None],
        concurrent_per_model: int = 0,
    ) -> None:
        """Start counters of this process at zero.

        Args:
            store: the database.
            deployments: whose engines' token counts are stored for ``reconcile``.
            clock: Unix time in seconds.
            on_webhook: called when a webhook may be due.
            concurrent_per_model: most runs of one model that an account may have at once; 0 is no limit.
        """
        self._store = store
        self._deployments = deployments
        self._clock = clock
        self._concurrent_per_model = concurrent_per_model
        self._on_webhook = on_webhook
        self._cursors: dict[str, _Cursor] = {}
        self._epoch = f"gateway_{secrets.token_hex(8)}"
        # Counts from before this journal are in the counters of another epoch, if in any.
        self._counts_before = deployments.token_counts()
        self._stored_tokens = 0
        """Engine tokens that are stored with runs."""
        self._balance: tuple[int, int, int] = (0, 0, 0)
        """Delivered, discarded and replayed tokens of no run, as last written."""
        self._balancing = asyncio.Lock()

    def now_ms(self) -> int:
        """Unix time in milliseconds."""
        return int(self._clock() * 1000)

    def resume(self, active: ActiveRun) -> None:
        """Set the cursor of a run that is restored from the store."""
        self._cursors[active.id] = _Cursor(events=len(active.log), engine_tokens=active.generation.engine_tokens)

    def forget(self, prediction_id: str) -> None:
        """Drop the cursor of a run that has ended."""
        self._cursors.pop(prediction_id, None)

    async def claim(self, active: ActiveRun, *, again: bool = False) -> claims.Claimed | claims.Attached:
        """Hold the most the run can cost, or find the prediction of the same request; see ``store.runs.claims``."""
        wanted = replace(claim_of(active.run), concurrent_per_model=self._concurrent_per_model)
        claim = partial(claims.claim, wanted=wanted, now_ms=active.run.created_at_ms, is_retry=again)
        return await self._store.write(claim)

    async def settle(
        self, active: ActiveRun, outcome: Outcome, last: Sequence[GenerationEvent], *, with_output: bool = True
    ) -> None:
        """End a run: status, bill, usage, counters, and its log with the *last* events, in one transaction.

        May be retried after an error: what an earlier attempt committed is recognised and not repeated.
        """
        cursor = self._cursor(active)
        async with cursor.writing:
            now_ms, epoch, prediction_id = self.now_ms(), self._epoch, active.id
            logged, engine_tokens = len(active.log), active.generation.engine_tokens
            events = [*active.log.since(cursor.events), *enumerate(last, logged + 1)] if with_output else []
            emitted = emitted_by(active) if with_output else without_output(emitted_by(active))
            settlement = replace(settlement_of(emitted, outcome, (), now_ms=now_ms), silent=active.opened.refused)
            never_ran = outcome.error is not None and not active.has_output

            def write(connection: Connection) -> None:
                before = streams.progress(connection, prediction_id)
                log = rows_of(events, after_seq=before.last_seq)
                settlements.settle(connection, replace(settlement, log=log), now_ms=now_ms)
                if before.is_over:
                    return
                if never_ran:  # refused by the engine: the same request may be made again under its idempotency key
                    claims.delete_idempotency_key(connection, prediction_id)
                counters.count_tokens(connection, epoch, delivered=engine_tokens - before.engine_tokens)

            await self._store.write(write)
            self._advance(cursor, events=logged, engine_tokens=engine_tokens)
            self._notify(active.run.ask.webhook)

    async def refuse(self, claim: claims.Claim, reason: str) -> str:
        """Store a prediction that failed before it ran; returns its id, or that of the same request's prediction.

        Raises:
            CorralError: as ``store.runs.claims.claim`` does.
        """
        now_ms = self.now_ms()
        outcome = Outcome(status=Status.FAILED, stopped_by=StoppedBy.REFUSED, error=InvalidRequest(reason))
        settlement = settlement_of(emitted_never(claim), outcome, [], now_ms=now_ms)

        def write(connection: Connection) -> str:
            claimed = claims.claim(connection, claim, now_ms=now_ms)
            if isinstance(claimed, claims.Attached):
                return claimed.prediction_id
            settlements.settle(connection, settlement, now_ms=now_ms)
            return claim.prediction_id

        prediction_id = await self._store.write(write)
        self._notify(claim.webhook)
        return prediction_id

    async def settle_unfinished(
        self, left: settlements.Unfinished, events: Sequence[GenerationEvent], outcome: Outcome
    ) -> None:
        """Settle a run that an earlier process left unfinished: billed for what is stored of it."""
        now_ms, prediction_id = self.now_ms(), left.prediction.id
        settlement = settlement_of(emitted_before(left, events), outcome, [], now_ms=now_ms)
        never_ran = outcome.stopped_by is StoppedBy.RESTART and not events and not left.engine_tokens

        def write(connection: Connection) -> None:
            settlements.settle(connection, settlement, now_ms=now_ms)
            if never_ran:
                claims.delete_idempotency_key(connection, prediction_id)

        await self._store.write(write)
        self._notify(left.prediction.webhook)

    async def flush(self, runs: Iterable[ActiveRun], *, skip_busy: bool = False) -> None:
        """Store what runs have emitted since the last time: in one transaction, or each alone if that is refused.

        A run whose progress the database refuses alone is not stored again before its end, so that it delays no other.
        With *skip_busy*, runs that are being written by somebody else are left out instead of waited for.
        """
        async with AsyncExitStack() as writing:
            found: list[tuple[_Cursor, ActiveRun]] = []
            for active in runs:
                cursor = self._cursor(active)
                if skip_busy and cursor.writing.locked():
                    continue
                await writing.enter_async_context(cursor.writing)
                if len(active.log) > cursor.events and not cursor.is_refused:
                    found.append((cursor, active))
            unstored = [(cursor, _progress_of(active, cursor)) for cursor, active in found]
            try:
                await self._write_progress(unstored)
            except (Overloaded, StorageUnavailable):
                raise
            except (CorralError, StoreFailed) as error:
                _log.warning("flush_refused", runs=len(unstored), reason=str(error))
                for cursor, progress in unstored:
                    await self._write_alone(cursor, progress)

    async def _write_alone(self, cursor: _Cursor, progress: _Progress) -> None:
        try:
            await self._write_progress([(cursor, progress)])
        except (Overloaded, StorageUnavailable):
            raise
        except (CorralError, StoreFailed) as error:
            _log.error("run_progress_refused", prediction=progress.prediction_id, reason=str(error))
            cursor.is_refused = True

    async def _write_progress(self, unstored: Sequence[tuple[_Cursor, _Progress]]) -> None:
        if not unstored:
            return
        now_ms, epoch, snapshots = self.now_ms(), self._epoch, [progress for _, progress in unstored]

        def write(connection: Connection) -> None:
            fresh_tokens = sum(_write_one(connection, one, now_ms) for one in snapshots)
            counters.count_tokens(connection, epoch, delivered=fresh_tokens)

        await self._store.write(write)
        for cursor, one in unstored:
            self._advance(cursor, events=cursor.events + len(one.events), engine_tokens=one.engine_tokens)
            self._notify(None if one.addressee is None else one.addressee.webhook)

    async def probe(self) -> None:
        """Write a row that changes nothing, to find out whether the database can be written again."""
        await self._store.write(partial(counters.count_tokens, epoch=self._epoch))

    async def balance(self) -> None:
        """While no run is active, store the engines' tokens that belong to no run; ``reconcile`` shows a difference.

        May be retried after an error: totals are written, to a row that nothing else changes.
        """
        async with self._balancing:
            counts, before = self._deployments.token_counts(), self._counts_before
            balance = (
                counts.delivered - before.delivered - self._stored_tokens,
                counts.discarded - before.discarded,
                counts.replayed - before.replayed,
            )
            if balance != self._balance:
                epoch = f"{self._epoch}_beside"
                await self._store.write(lambda connection: counters.put_tokens(connection, epoch, *balance))
                self._balance = balance

    def _cursor(self, active: ActiveRun) -> _Cursor:
        return self._cursors.setdefault(active.id, _Cursor())

    def _advance(self, cursor: _Cursor, *, events: int, engine_tokens: int) -> None:
        self._stored_tokens += engine_tokens - cursor.engine_tokens
        cursor.engine_tokens, cursor.events = engine_tokens, events

    def _notify(self, webhook: Webhook | None) -> None:
        if webhook is not None:
            self._on_webhook()
