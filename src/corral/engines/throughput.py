"""Estimate of a request's wait in the queue, from the measured throughput of the workers."""

from collections.abc import Iterable
from math import exp

from corral.engines.sequences import QueuedSequence

_MEMORY_S = 30.0
"""Work this long ago counts 1/e of work now."""
_LEAST_S = 1.0
"""Less busy time than this is too little for an estimate."""
_MEMORY_SEQUENCES = 32


class ThroughputEstimator:
    """Tokens per second of a busy worker, prompts included, and the share of ``max_new_tokens`` that answers use."""

    def __init__(self) -> None:
        self._tokens = 0.0
        self._busy_s = 0.0
        self._asked_tokens = 0.0
        self._used_tokens = 0.0

    def step_done(self, tokens: int, seconds: float) -> None:
        """Count the tokens and the time of a step."""
        fading = exp(-seconds / _MEMORY_S)
        self._tokens = self._tokens * fading + tokens
        self._busy_s = self._busy_s * fading + seconds

    def sequence_ended(self, sequence: QueuedSequence) -> None:
        """Count the answer of a sequence that was computed."""
        fading = 1 - 1 / _MEMORY_SEQUENCES
        self._asked_tokens = self._asked_tokens * fading + sequence.request.max_new_tokens
        self._used_tokens = self._used_tokens * fading + len(sequence.emitted)

    def expected_tokens(self, sequence: QueuedSequence) -> float:
        """Tokens still to be computed for a sequence, its prompt included while nothing has come."""
        used = self._used_tokens / self._asked_tokens if self._asked_tokens else 1.0
        prompt_tokens = 0 if sequence.emitted else len(sequence.request.prompt_ids)
        return prompt_tokens + used * (sequence.request.max_new_tokens - len(sequence.emitted))

    def wait_s(
        self,
        *,
        running: Iterable[QueuedSequence],
        ahead: Iterable[QueuedSequence],
        tokens: int,
        sequences: int,
        workers: int = 1,
    ) -> float | None:
        """Estimate the seconds until enough room is free. None: the throughput is unknown.

        A worker's throughput is spread evenly over its batch, which stays as full as it is.

        Args:
            running: sequences in the batches.
            ahead: sequences that wait in front.
            tokens: room that *running* must free, or else they and all *ahead* must end.
            sequences: places that *running* must free, likewise.
            workers: that compute at the same time.
        """
        if self._busy_s < _LEAST_S or not self._tokens or not self._asked_tokens:
            return None
        if tokens <= 0 and sequences <= 0:
            return 0.0
        tokens_per_s = workers * self._tokens / self._busy_s
        batch = sorted((self.expected_tokens(sequence), sequence.cost_tokens) for sequence in running)
        free_tokens = 0
        for ended, (left_tokens, held_tokens) in enumerate(batch, start=1):
            free_tokens += held_tokens
            if free_tokens >= tokens and ended >= sequences:
                return left_tokens * len(batch) / tokens_per_s
        return (sum(left for left, _ in batch) + sum(map(self.expected_tokens, ahead))) / tokens_per_s
