"""How long a request would wait, from what the worker was seen to do. Knows nothing of queues or processes."""

from collections.abc import Iterable
from math import exp

from corral.engines.runs import Run

_MEMORY_S = 30.0
"""Work this long ago counts 1/e of today's."""
_LEAST_S = 1.0
"""Less busy time than this says nothing about a worker's speed."""
_MEMORY_RUNS = 32


class Pace:
    """Tokens per second of a busy worker, prompts included, and how much of what runs ask for they use."""

    def __init__(self) -> None:
        self._tokens = 0.0
        self._busy_s = 0.0
        self._asked_tokens = 0.0
        self._used_tokens = 0.0

    def worked(self, tokens: int, seconds: float) -> None:
        """A step is done."""
        fading = exp(-seconds / _MEMORY_S)
        self._tokens = self._tokens * fading + tokens
        self._busy_s = self._busy_s * fading + seconds

    def ended(self, run: Run) -> None:
        """A run is over that has been in the batch."""
        fading = 1 - 1 / _MEMORY_RUNS
        self._asked_tokens = self._asked_tokens * fading + run.request.max_new_tokens
        self._used_tokens = self._used_tokens * fading + len(run.emitted)

    def expected_tokens(self, run: Run) -> float:
        """Tokens still to be computed for a run, its prompt included while nothing has come."""
        used = self._used_tokens / self._asked_tokens if self._asked_tokens else 1.0
        prompt_tokens = 0 if run.emitted else len(run.request.prompt_ids)
        return prompt_tokens + used * (run.request.max_new_tokens - len(run.emitted))

    def wait_s(self, *, running: Iterable[Run], ahead: Iterable[Run], kv_blocks: int, sequences: int) -> float | None:
        """Seconds until so many blocks and sequences of *running* are free, or they and those *ahead* have ended.

        The worker's speed is spread evenly over its batch, which stays as full as it is. None: speed is unknown yet.
        """
        if self._busy_s < _LEAST_S or not self._tokens or not self._asked_tokens:
            return None
        if kv_blocks <= 0 and sequences <= 0:
            return 0.0
        tokens_per_s = self._tokens / self._busy_s
        batch = sorted((self.expected_tokens(run), run.kv_blocks) for run in running)
        free_blocks = 0
        for ended, (tokens, blocks) in enumerate(batch, start=1):
            free_blocks += blocks
            if free_blocks >= kv_blocks and ended >= sequences:
                return tokens * len(batch) / tokens_per_s
        return (sum(tokens for tokens, _ in batch) + sum(map(self.expected_tokens, ahead))) / tokens_per_s
