"""Placement: which of several workers gets a sequence.

The least busy worker gets it, unless another that is not much busier has computed the same prompt prefix and may have
it in its cache. A worker that died repeatedly gets no sequences for a growing time, then one as a trial.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from corral.engines.batch import WorkerBatch
from corral.engines.sequences import QueuedSequence

PREFIX_TOKENS: Final = 32
"""Prefixes are compared in pieces of this many tokens."""
_REMEMBERED_PREFIXES: Final = 4096
MAX_FAILURES: Final = 3
"""After this many deaths in a row without a finished sequence, a worker's circuit opens."""
FIRST_PAUSE_S: Final = 5.0
LONGEST_PAUSE_S: Final = 300.0


@dataclass(slots=True)
class _Record:
    """History of one worker."""

    failures: int = 0
    """Deaths since it last finished a sequence."""
    open_until_s: float = 0.0
    prefixes: OrderedDict[int, None] = field(default_factory=OrderedDict[int, None])
    """Hashes of the prompt prefixes that it computed, the latest last."""


class Placement:
    """Chooses workers, and remembers how each fared."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._records: dict[int, _Record] = {}

    def choose(
        self, sequence: QueuedSequence, candidates: Sequence[WorkerBatch], batches: Sequence[WorkerBatch]
    ) -> WorkerBatch | None:
        """Choose one of *candidates*, the workers with room. None: none has, or a sound one will have later.

        Args:
            sequence: to be placed.
            candidates: workers that could take it now.
            batches: all workers of the engine.
        """
        sound = [batch for batch in candidates if self._is_sound(batch)]
        if not sound and not any(batch.is_ready and self._is_sound(batch) for batch in batches):
            sound = list(candidates)  # better a worker that may die than none
        if len(sound) <= 1:
            return sound[0] if sound else None
        matched = {batch.index: self._matched_tokens(batch, sequence) for batch in sound}
        least_tokens = min(batch.outstanding_tokens for batch in sound)
        near = [batch for batch in sound if batch.outstanding_tokens <= least_tokens + sequence.cost_tokens]
        return min(
            (batch for batch in near if matched[batch.index] or batch.outstanding_tokens == least_tokens),
            key=lambda batch: (-matched[batch.index], batch.outstanding_tokens, batch.submitted),
        )

    def placed(self, batch: WorkerBatch, sequence: QueuedSequence) -> None:
        """Remember that a worker computes the prefixes of a prompt."""
        prefixes = self._record(batch).prefixes
        for prefix in sequence.prefixes(PREFIX_TOKENS):
            prefixes[prefix] = None
            prefixes.move_to_end(prefix)
        while len(prefixes) > _REMEMBERED_PREFIXES:
            prefixes.popitem(last=False)

    def finished(self, batch: WorkerBatch) -> None:
        """A worker has finished a sequence: its circuit closes."""
        self._record(batch).failures = 0

    def died(self, batch: WorkerBatch, *, blamed: bool) -> None:
        """A worker died or could not be started.

        Args:
            batch: of the worker.
            blamed: a sequence that was computed alone is held responsible instead.
        """
        record = self._record(batch)
        record.prefixes.clear()
        if blamed:
            return
        record.failures += 1
        if record.failures >= MAX_FAILURES:
            pause_s = min(FIRST_PAUSE_S * 2 ** (record.failures - MAX_FAILURES), LONGEST_PAUSE_S)
            record.open_until_s = self._clock() + pause_s

    def pause_s(self, batch: WorkerBatch) -> float:
        """Seconds until a worker may be tried again; 0 if its circuit is not open."""
        record = self._record(batch)
        return max(0.0, record.open_until_s - self._clock()) if record.failures >= MAX_FAILURES else 0.0

    def _is_sound(self, batch: WorkerBatch) -> bool:
        if self._record(batch).failures < MAX_FAILURES:
            return True
        return self.pause_s(batch) == 0 and batch.submitted == 0  # half open: one sequence as a trial

    def _matched_tokens(self, batch: WorkerBatch, sequence: QueuedSequence) -> int:
        prefixes, matched = self._record(batch).prefixes, 0
        for prefix in sequence.prefixes(PREFIX_TOKENS):
            if prefix not in prefixes:
                break
            matched += PREFIX_TOKENS
        return matched

    def _record(self, batch: WorkerBatch) -> _Record:
        return self._records.setdefault(batch.index, _Record())
