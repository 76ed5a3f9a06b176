"""Preemption: which sequences of low priority leave their worker for sequences of normal priority.

A sequence that leaves goes back to the front of its queue, and is submitted again later with the tokens that it has.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from corral.engines.batch import WorkerBatch
from corral.engines.sequences import QueuedSequence

LOW_PRIORITY_PROMPT_TOKENS: Final = 512
"""Prompt tokens of low priority that a worker reads at a time, about one step's work. A longer prompt is read alone."""
MAX_EVICTIONS_WHILE_READING: Final = 2
"""A sequence whose long prompt was interrupted so often reads it to its end, so that it is not interrupted for ever."""

Victim = tuple[WorkerBatch, QueuedSequence]


def may_read(sequence: QueuedSequence, batch: WorkerBatch) -> bool:
    """Whether a worker may begin the prompt of a sequence of low priority beside those that it reads already."""
    reading = [one.known_tokens for one in batch.low_priority if one.reads_prompt]
    return not reading or sum(reading) + sequence.known_tokens <= LOW_PRIORITY_PROMPT_TOKENS


def interrupted_readers(batches: Iterable[WorkerBatch]) -> Iterator[Victim]:
    """Yield the long prompts of low priority that a prompt of normal priority would have to wait for."""
    for batch in batches:
        low = batch.low_priority
        if low and any(one.reads_prompt and not one.request.low_priority for one in batch.sequences):
            for sequence in low:
                is_long = sequence.known_tokens > LOW_PRIORITY_PROMPT_TOKENS
                is_spared = sequence.evictions >= MAX_EVICTIONS_WHILE_READING
                if sequence.reads_prompt and is_long and sequence.can_make_way and not is_spared:
                    yield batch, sequence


def victims_for(waiting: Iterable[QueuedSequence], batches: Sequence[WorkerBatch]) -> list[Victim]:
    """Choose the fewest sequences of low priority whose room lets waiting sequences of normal priority be submitted.

    Args:
        waiting: sequences of normal priority, in the order of service.
        batches: workers that take sequences now.
    """
    forecasts = [_Forecast.of(batch) for batch in batches]
    for sequence in waiting:
        options = [(forecast.needed_for(sequence), forecast) for forecast in forecasts]
        possible = [(needed, forecast) for needed, forecast in options if needed is not None]
        if not possible:
            break
        needed, forecast = min(possible, key=lambda option: option[0])
        forecast.promise(sequence, needed)
    return [(forecast.batch, one) for forecast in forecasts for one in forecast.victims]


@dataclass(slots=True, kw_only=True)
class _Forecast:
    """Room of a worker once its cancelled sequences and the victims chosen so far are gone."""

    batch: WorkerBatch
    free_places: int
    free_blocks: int | None
    """None for an engine without KV blocks."""
    evictable: list[QueuedSequence]
    """The latest submitted last: it has most to compute still."""
    victims: list[QueuedSequence] = field(default_factory=list[QueuedSequence])

    @classmethod
    def of(cls, batch: WorkerBatch) -> "_Forecast":
        """Forecast for a worker before any victim is chosen."""
        kv_blocks = None if batch.info is None else batch.info.kv_blocks
        return cls(
            batch=batch,
            free_places=batch.max_sequences - batch.submitted + batch.leaving,
            free_blocks=None if kv_blocks is None else kv_blocks - batch.kv_blocks_reserved + batch.leaving_blocks,
            evictable=[sequence for sequence in batch.low_priority if sequence.can_make_way],
        )

    def needed_for(self, sequence: QueuedSequence) -> int | None:
        """How many more victims a waiting sequence needs; None if all of them would not be enough."""
        places, blocks = self.free_places, self.free_blocks
        for needed in range(len(self.evictable) + 1):
            if needed:
                places += 1
                blocks = None if blocks is None else blocks + self.batch.blocks_of(self.evictable[-needed])
            if places >= 1 and (blocks is None or blocks >= self.batch.blocks_of(sequence)):
                return needed
        return None

    def promise(self, sequence: QueuedSequence, needed: int) -> None:
        """Choose that many victims, and count their room as taken by the waiting sequence."""
        for _ in range(needed):
            victim = self.evictable.pop()
            self.victims.append(victim)
            self.free_places += 1
            if self.free_blocks is not None:
                self.free_blocks += self.batch.blocks_of(victim)
        self.free_places -= 1
        if self.free_blocks is not None:
            self.free_blocks -= self.batch.blocks_of(sequence)
