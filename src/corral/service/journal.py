"""Writes what runs do: claims, progress, settlements, and the engine's own count beside them.

Every write leaves the books balanced, so a gateway may die after any of them. Knows no SQL.
"""

import secrets
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Final

from corral.core.errors import InvalidRequest
from corral.core.generation import GenerationEvent
from corral.core.prediction import Status, StoppedBy, Webhook
from corral.engines.base import Engine
from corral.service.live import LiveRun, Outcome
from corral.service.settling import (
    addressee_of,
    claim_of,
    emitted_before,
    emitted_by,
    emitted_never,
    news_of,
    rows_of,
    settlement_of,
)
from corral.store import claims, counters, outbox, settlements, streams
from corral.store.store import Connection, Store

_ID_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_ID_LENGTH: Final = 26


def new_prediction_id() -> str:
    """26 characters of base32 without look-alikes: 130 random bits."""
    return "".join(_ID_ALPHABET[byte & 31] for byte in secrets.token_bytes(_ID_LENGTH))


class Journal:
    """The store as runs see it."""

    def __init__(
        self,
        store: Store,
        engine: Engine,
        clock: Callable[[], float],
        *,
        on_news: Callable[[], None],
        concurrent_per_model: int = 0,
    ) -> None:
        """Count from now on.

        Args:
            store: where all is written.
            engine: whose own count is put beside it.
            clock: Unix time in seconds.
            on_news: called when there is something to tell the callers who asked for that.
            concurrent_per_model: runs that one account may have of one model at once; 0 is no limit.
        """
        self._store = store
        self._engine = engine
        self._clock = clock
        self._concurrent_per_model = concurrent_per_model
        self._on_news = on_news
        self._epoch = f"gateway_{secrets.token_hex(8)}"
        # What the engine did before is in somebody else's counters, if in any.
        stats = engine.stats()
        self._counted = stats.delivered_tokens
        """Delivered tokens that are in this epoch's counters."""
        self._aside = (stats.discarded_tokens, stats.replayed_tokens)
        """Discarded and replayed tokens that are."""

    def now_ms(self) -> int:
        """Unix time in milliseconds."""
        return int(self._clock() * 1000)

    async def claim(self, live: LiveRun) -> claims.Claimed | claims.Attached:
        """Hold the worst case, or find the prediction that the same request made; see ``store.claims.claim``."""
        wanted = replace(claim_of(live), concurrent_per_model=self._concurrent_per_model)
        return await self._store.write(lambda connection: claims.claim(connection, wanted, now_ms=live.created_at_ms))

    async def settle(self, live: LiveRun, outcome: Outcome, last: Sequence[GenerationEvent]) -> None:
        """End a run: state, bill, usage, counters, and its log with the *last* events, in one transaction.

        May be tried again after an error: what was done in spite of it is not done twice.
        """
        async with live.writing:
            now_ms = self.now_ms()
            settlement = settlement_of(emitted_by(live), outcome, rows_of(live, last), now_ms=now_ms)
            settlement = replace(settlement, silent=live.refused)
            fresh_tokens = live.engine_tokens - live.stored_tokens
            never_ran = outcome.error is not None and not len(live.log)

            def write(connection: Connection) -> None:
                settled = settlements.settle(connection, settlement, now_ms=now_ms)
                if settled.receipt != settlement.receipt.as_dict():
                    return
                if never_ran:  # refused by the engine: the same request may be made again under its idempotency key
                    claims.release_idempotency(connection, live.id)
                counters.count_tokens(connection, self._epoch, delivered=fresh_tokens)

            await self._store.write(write)
            self._stored(live, live.engine_tokens, len(live.log))
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
                claims.release_idempotency(connection, left.prediction.id)

        await self._store.write(write)
        self._tell_of(left.prediction.webhook)

    async def flush(self, lives: Sequence[LiveRun]) -> None:
        """Store what runs have emitted since the last time."""
        async with AsyncExitStack() as writing:
            for live in lives:
                await writing.enter_async_context(live.writing)
            moved = [
                (live, rows_of(live), live.engine_tokens, len(live.log))
                for live in lives
                if len(live.log) > live.stored_events
            ]
            now_ms = self.now_ms()

            def write(connection: Connection) -> None:
                for live, rows, engine_tokens, _ in moved:
                    begins = live.stored_events == 0 and settlements.started(
                        connection, live.id, now_ms=live.started_at_ms or now_ms, admitted_at_ms=live.admitted_at_ms
                    )
                    streams.append(connection, live.id, rows, engine_tokens=engine_tokens)
                    if (whom := addressee_of(live)) is not None:
                        outbox.tell(connection, whom, news_of(live, begins=begins), now_ms=now_ms)
                fresh_tokens = sum(tokens - live.stored_tokens for live, _, tokens, _ in moved)
                counters.count_tokens(connection, self._epoch, delivered=fresh_tokens)

            if moved:
                await self._store.write(write)
            for live, _, engine_tokens, events in moved:
                self._stored(live, engine_tokens, events)
                self._tell_of(live.ask.webhook)

    async def balance(self) -> None:
        """With no run alive, put the engine's own count beside what runs received: a difference shows in reconcile."""
        stats = self._engine.stats()
        aside = (stats.discarded_tokens, stats.replayed_tokens)
        delivered = stats.delivered_tokens - self._counted
        discarded, replayed = aside[0] - self._aside[0], aside[1] - self._aside[1]
        if not (delivered or discarded or replayed):
            return
        # Before the write, for a run that begins and ends during it counts on.
        self._counted, self._aside = stats.delivered_tokens, aside
        await self._store.write(
            lambda connection: counters.count_tokens(
                connection, self._epoch, delivered=delivered, discarded=discarded, replayed=replayed
            )
        )

    def _tell_of(self, webhook: Webhook | None) -> None:
        if webhook is not None:
            self._on_news()

    def _stored(self, live: LiveRun, engine_tokens: int, events: int) -> None:
        self._counted += engine_tokens - live.stored_tokens
        live.stored_tokens, live.stored_events = engine_tokens, events
