"""Event log of a run: one writer, any number of readers, live or later, from any event on.

Events are numbered from 1, and each delta in the log carries one token. So a run that is computed again after a crash
gives the same numbers to the same tokens, however they were batched, and a reader can resume after any of them.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import replace
from typing import Final

from corral.core.errors import CorralError
from corral.core.generation import Delta, GenerationEvent, Queued

_DIGEST_BYTES: Final = 4
_NO_TOKENS: Final = bytes(_DIGEST_BYTES)


class RunLog:
    """Events of one run, and the readers that wait for more of them."""

    def __init__(self) -> None:
        self._events: list[GenerationEvent] = []
        """Event number n is at index n - 1."""
        self._digests: list[bytes] = [_NO_TOKENS]
        """At index n, the digest of the token ids up to event n; computed on demand."""
        self._waiting: list[asyncio.Future[None]] = []
        self._over = False
        self._error: CorralError | None = None
        self._queued: Queued | None = None

    def __len__(self) -> int:
        return len(self._events)

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self._over

    def since(self, index: int) -> list[tuple[int, GenerationEvent]]:
        """Copy the events from an index on, with their numbers; used to store the log."""
        return list(enumerate(self._events[index:], index + 1))

    def digest(self, number: int) -> str | None:
        """Digest of the token ids of all choices up to event *number*, 8 hex digits; None beyond the log's end.

        It depends on the ids and their order alone, so it tells whether a computation that was repeated gave the same.
        """
        if not 0 <= number <= len(self._events):
            return None
        for event in self._events[len(self._digests) - 1 : number]:
            self._digests.append(_digest(self._digests[-1], event))
        return self._digests[number].hex()

    def append(self, events: Iterable[GenerationEvent]) -> None:
        """Add events and wake every reader. A queue position is sent to current readers and not kept."""
        for event in events:
            if isinstance(event, Queued):
                self._queued = event
                continue
            self._events.extend(_by_token(event))
        self._wake_readers()

    def close(self, error: CorralError | None = None) -> None:
        """End the log; readers get *error* after the last event."""
        self._over, self._error = True, error
        self._wake_readers()

    async def read(self, *, after: int = 0) -> AsyncIterator[tuple[int, GenerationEvent]]:
        """Yield events numbered above *after* as they come; adjacent deltas of one choice are joined.

        *after* may be beyond the log's end, where a reader has received more than a crashed server had stored: then
        nothing is yielded until the log is longer than that.

        Raises:
            CorralError: the error that the log was closed with.
        """
        index = after
        sent: Queued | None = None
        while True:
            if not self._events and self._queued != sent:
                sent = self._queued
                if sent is not None:
                    yield 0, sent
            while index < len(self._events):
                index, event = self._coalesce(index)
                yield index, event
            if self._over:
                if self._error is not None:
                    raise self._error
                return
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            await waiter

    def _coalesce(self, index: int) -> tuple[int, GenerationEvent]:
        """Join the event at *index* with the deltas of its choice that follow; returns the last one's number too."""
        first = self._events[index]
        end = index + 1
        if isinstance(first, Delta):
            while end < len(self._events) and _continues(first, self._events[end]):
                end += 1
        if end == index + 1:
            return end, first
        deltas = [event for event in self._events[index:end] if isinstance(event, Delta)]
        return end, join(deltas)

    def _wake_readers(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)


def join(deltas: list[Delta]) -> Delta:
    """Several deltas of one choice as one; text and tokens unchanged."""
    return Delta(
        choice=deltas[0].choice,
        text="".join(delta.text for delta in deltas),
        ids=tuple(token_id for delta in deltas for token_id in delta.ids),
        logprobs=tuple(logprob for delta in deltas for logprob in delta.logprobs),
        pieces=tuple(piece for delta in deltas for piece in delta.pieces),
        completion_tokens=deltas[-1].completion_tokens,
    )


def _continues(first: Delta, event: GenerationEvent) -> bool:
    return isinstance(event, Delta) and event.choice == first.choice


def _by_token(event: GenerationEvent) -> Iterator[GenerationEvent]:
    """Cut a delta at its tokens. Its text goes with the last one, as it is certain only after that."""
    if not isinstance(event, Delta) or len(event.ids) < 2:
        yield event
        return
    last = len(event.ids) - 1
    for index, token_id in enumerate(event.ids):
        yield replace(
            event,
            text=event.text if index == last else "",
            ids=(token_id,),
            logprobs=event.logprobs[index : index + 1],
            pieces=event.pieces[index : index + 1],
            completion_tokens=event.completion_tokens - (last - index),
        )


def _digest(before: bytes, event: GenerationEvent) -> bytes:
    if not isinstance(event, Delta):
        return before
    tokens = b"".join(b"%d:%d;" % (event.choice, token_id) for token_id in event.ids)
    return hashlib.blake2b(before + tokens, digest_size=_DIGEST_BYTES).digest()
