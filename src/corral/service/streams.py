"""The log of a run's events: appended to once, read by many, live or later, from any point.

Events are numbered by what they carry: a delta by its tokens, any other event by one. So a run that is computed again
after a crash gives the same numbers to the same tokens, however they were batched, and a reader can go on where it
stopped.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable

from corral.core.errors import CorralError
from corral.core.generation import Delta, GenerationEvent, Queued


class RunLog:
    """What happened in one run, and a bell for those who wait for more."""

    def __init__(self) -> None:
        self._events: list[GenerationEvent] = []
        self._numbers: list[int] = []
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
        """Numbers and events from an index on; for whoever stores the log."""
        return list(zip(self._numbers[index:], self._events[index:], strict=True))

    def number_before(self, index: int) -> int:
        """Number of the event before the one at *index*; 0 for the first."""
        return self._numbers[index - 1] if index else 0

    def append(self, events: Iterable[GenerationEvent]) -> None:
        """Add events and wake every reader. A queue position is told but not kept: it is of no use later."""
        for event in events:
            if isinstance(event, Queued):
                self._queued = event
                continue
            carried = len(event.ids) if isinstance(event, Delta) else 1
            self._numbers.append((self._numbers[-1] if self._numbers else 0) + carried)
            self._events.append(event)
        self._ring()

    def close(self, error: CorralError | None = None) -> None:
        """Nothing more will come; readers get *error* after the last event."""
        self._over, self._error = True, error
        self._ring()

    async def read(self, *, after: int = 0) -> AsyncIterator[tuple[int, GenerationEvent]]:
        """Every event numbered above *after*, then what comes; neighbouring deltas of one choice as one.

        Raises:
            CorralError: what the log was closed with.
        """
        index = next((i for i, number in enumerate(self._numbers) if number > after), len(self._events))
        told: Queued | None = None
        while True:
            if not self._events and self._queued != told:
                told = self._queued
                if told is not None:
                    yield 0, told
            while index < len(self._events):
                index, number, event = self._coalesce(index)
                yield number, event
            if self._over:
                if self._error is not None:
                    raise self._error
                return
            bell = asyncio.get_running_loop().create_future()
            self._waiting.append(bell)
            await bell

    def _coalesce(self, index: int) -> tuple[int, int, GenerationEvent]:
        """The event at *index*, joined with the deltas of its choice that follow it; and where to go on."""
        first = self._events[index]
        end = index + 1
        if isinstance(first, Delta):
            while end < len(self._events) and _continues(first, self._events[end]):
                end += 1
        if end == index + 1:
            return end, self._numbers[index], first
        deltas = [event for event in self._events[index:end] if isinstance(event, Delta)]
        return end, self._numbers[end - 1], join(deltas)

    def _ring(self) -> None:
        waiting, self._waiting = self._waiting, []
        for bell in waiting:
            if not bell.done():
                bell.set_result(None)


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
