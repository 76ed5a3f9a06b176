"""Writes what runs do: claims, progress, settlements, and the engine's own count beside them.

Every write leaves the books balanced, so a gateway may die after any of them. Knows no SQL.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Final

import structlog

from corral.core.errors import CorralError, InvalidRequest, Overloaded, StorageUnavailable
from corral.core.generation import GenerationEvent
from corral.core.prediction import Status, StoppedBy, Webhook
from corral.deployments.registry import Deployments
from corral.service.runs.live import LiveRun, Outcome
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
    unstored,
    without_output,
)
from corral.store.books import counters
from corral.store.databases.failures import StoreFailed
from corral.store.runs import claims, settlements, streams
from corral.store.store import Connection, Store
from corral.store.webhooks import outbox

_log = structlog.get_logger(__name__)

_ID_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_ID_LENGTH: Final = 26


def new_prediction_id() -> str:
    """26 characters of base32 without look-alikes: 130 random bits."""
    return "".join(_ID_ALPHABET[byte & 31] for byte in secrets.token_bytes(_ID_LENGTH))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moved:
    """What a run has emitted beyond what is known to be stored."""

    live: LiveRun
    events: Numbered
    engine_tokens: int


def _write_one(connection: Connection, moved: _Moved, now_ms: int) -> int:
    """Store the progress of one run; how many tokens of the engine are new to the store.

    Of an earlier commit whose answer was lost the store knows more than the run does.
    """
    live = moved.live
    before = streams.progress(connection, live.id)
    if before.is_over:
        return 0
    begins = live.stored_events == 0 and settlements.record_start(
        connection,
        live.id,
        now_ms=live.started_at_ms or now_ms,
        admitted_at_ms=live.admitted_at_ms,
        weights_id=live.prepared.computed_weights_id,
    )
    rows = rows_of(moved.events, after_seq=before.last_seq)
    streams.append(connection, live.id, rows, engine_tokens=moved.engine_tokens)
    if (whom := addressee_of(live)) is not None:
        outbox.enqueue(connection, whom, news_of(moved.events, begins=begins), now_ms=now_ms)
    return moved.engine_tokens - before.engine_tokens


class Journal:
    """The store as runs see it."""

    def __init__(
        self,
        store: Store,
        deployments: Deployments,
        clock: Callable[[], float],
        *,
        on_news: Callable[[], None],
        concurrent_per_model: int = 0,
    ) -> None:
        """Count from now on.

        Args:
            store: where all is written.
            deployments: whose own count is put beside it.
            clock: Unix time in seconds.
            on_news: called when there is something to tell the callers who asked for that.
            concurrent_per_model: runs that one account may have of one model at once; 0 is no limit.
        """
        self._store = store
        self._deployments = deployments
        self._clock = clock
        self._concurrent_per_model = concurrent_per_model
        self._on_news = on_news
        self._refused: set[str] = set()
        """Ids of runs whose progress the database refuses."""
        self._epoch = f"gateway_{secrets.token_hex(8)}"
        self._epoch_beside = f"{self._epoch}_beside"
        # What the engine did before is in somebody else's counters, if in any.
        before = deployments.token_counts()
        self._counted = before.delivered
        """Delivered tokens that are stored with a run."""
        self._aside_before = (before.discarded, before.replayed)
        self._beside = (0, 0, 0)
        """Delivered, discarded and replayed tokens of no run, as they were written last."""
        self._balancing = asyncio.Lock()

    def now_ms(self) -> int:
        """Unix time in milliseconds."""
        return int(self._clock() * 1000)

    async def claim(self, live: LiveRun, *, again: bool = False) -> claims.Claimed | claims.Attached:
        """Hold the worst case, or find the prediction that the same request made; see ``store.claims.claim``."""
        wanted = replace(claim_of(live), concurrent_per_model=self._concurrent_per_model)
        return await self._store.write(
            lambda connection: claims.claim(connection, wanted, now_ms=live.created_at_ms, is_retry=again)
        )

    async def settle(
        self, live: LiveRun, outcome: Outcome, last: Sequence[GenerationEvent], *, with_output: bool = True
    ) -> None:
        """End a run: state, bill, usage, counters, and its log with the *last* events, in one transaction.

        May be tried again after an error: what was done in spite of it is recognised, and not done twice.
        """
        async with live.writing:
            now_ms = self.now_ms()
            events, engine_tokens = unstored(live, last) if with_output else (), live.engine_tokens
            emitted = emitted_by(live) if with_output else without_output(emitted_by(live))
            settlement = replace(settlement_of(emitted, outcome, (), now_ms=now_ms), silent=live.refused)
            never_ran = outcome.error is not None and not len(live.log)

            def write(connection: Connection) -> None:
                before = streams.progress(connection, live.id)
                log = rows_of(events, after_seq=before.last_seq)
                settlements.settle(connection, replace(settlement, log=log), now_ms=now_ms)
                if before.is_over:
                    return
                if never_ran:  # refused by the engine: the same request may be made again under its idempotency key
                    claims.delete_idempotency_key(connection, live.id)
                counters.count_tokens(connection, self._epoch, delivered=engine_tokens - before.engine_tokens)

            await self._store.write(write)
            self._stored(live, engine_tokens, len(live.log))
            self._tell_of(live.ask.webhook)

    async def refuse(self, claim: claims.Claim, reason: str) -> str:
        """Write a prediction that failed before anything was run; its id, or the one that the same request led to.

        Raises:
            CorralError: as ``store.claims.claim`` does.
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
        self._tell_of(claim.webhook)
        return prediction_id

    async def write_off(
        self, left: settlements.Unfinished, events: Sequence[GenerationEvent], outcome: Outcome
    ) -> None:
        """End a run that an earlier process left: billed for what is known to be emitted."""
        now_ms = self.now_ms()
        settlement = settlement_of(emitted_before(left, events), outcome, [], now_ms=now_ms)
        never_ran = outcome.stopped_by is StoppedBy.RESTART and not events and not left.engine_tokens

        def write(connection: Connection) -> None:
            settlements.settle(connection, settlement, now_ms=now_ms)
            if never_ran:
                claims.delete_idempotency_key(connection, left.prediction.id)

        await self._store.write(write)
        self._tell_of(left.prediction.webhook)

    async def flush(self, lives: Sequence[LiveRun]) -> None:
        """Store what runs have emitted since the last time: all in one transaction, or each alone if it is refused.

        A run whose progress the database refuses alone is stored no more before its end, so that it holds up nobody.
        """
        async with AsyncExitStack() as writing:
            for live in lives:
                await writing.enter_async_context(live.writing)
            moved = [
                _Moved(live=live, events=unstored(live), engine_tokens=live.engine_tokens)
                for live in lives
                if len(live.log) > live.stored_events and live.id not in self._refused
            ]
            try:
                await self._write_progress(moved)
            except (Overloaded, StorageUnavailable):
                raise
            except (CorralError, StoreFailed) as error:
                _log.warning("flush_refused", runs=len(moved), reason=str(error))
                for one in moved:
                    await self._write_alone(one)

    async def _write_alone(self, moved: "_Moved") -> None:
        try:
            await self._write_progress([moved])
        except (Overloaded, StorageUnavailable):
            raise
        except (CorralError, StoreFailed) as error:
            _log.error("run_progress_refused", prediction=moved.live.id, reason=str(error))
            self._refused.add(moved.live.id)

    async def _write_progress(self, moved: Sequence["_Moved"]) -> None:
        now_ms = self.now_ms()

        def write(connection: Connection) -> None:
            fresh_tokens = sum(_write_one(connection, one, now_ms) for one in moved)
            counters.count_tokens(connection, self._epoch, delivered=fresh_tokens)

        if moved:
            await self._store.write(write)
        for one in moved:
            self._stored(one.live, one.engine_tokens, one.live.stored_events + len(one.events))
            self._tell_of(one.live.ask.webhook)

    def forget(self, live: LiveRun) -> None:
        """Keep nothing of a run that is over."""
        self._refused.discard(live.id)

    async def probe(self) -> None:
        """Write a row that changes nothing, to find out whether the database can be written again."""
        await self._store.write(lambda connection: counters.count_tokens(connection, self._epoch))

    async def balance(self) -> None:
        """With no run alive, put the engine's own count beside what runs received: a difference shows in reconcile.

        May be tried again after an error, for whole amounts are written, in a row that nothing else changes.
        """
        async with self._balancing:
            counts, (discarded, replayed) = self._deployments.token_counts(), self._aside_before
            delivered = counts.delivered - self._counted
            beside = (delivered, counts.discarded - discarded, counts.replayed - replayed)
            if beside != self._beside:
                await self._store.write(lambda connection: counters.put_tokens(connection, self._epoch_beside, *beside))
                self._beside = beside

    def _tell_of(self, webhook: Webhook | None) -> None:
        if webhook is not None:
            self._on_news()

    def _stored(self, live: LiveRun, engine_tokens: int, events: int) -> None:
        self._counted += engine_tokens - live.stored_tokens
        live.stored_tokens, live.stored_events = engine_tokens, events
