"""Which run may join the batch: first come, first served, and only what can finish.

A run holds, from the moment it is submitted, KV blocks for its prompt and its whole answer. So what runs never has to
be preempted, and no engine ever ends a sequence for lack of cache.
"""

from collections import deque
from collections.abc import Iterator

from corral.engines.base import EngineInfo, EngineRequest
from corral.engines.runs import Run

SUSPECT_DEATHS = 2
"""After this many deaths a run is computed alone: if it kills a worker again, it takes nobody with it."""


def kv_blocks(request: EngineRequest, info: EngineInfo) -> int:
    """Blocks that prompt and whole answer fill, rounded up."""
    return -(-(len(request.prompt_ids) + request.max_new_tokens) // info.kv_block_tokens)


class RunQueue:
    """Waiting and submitted runs, and the blocks that the latter hold."""

    def __init__(self) -> None:
        self._waiting: deque[Run] = deque()
        self._submitted: dict[int, Run] = {}
        self._leaving: dict[int, int] = {}
        self._next_key = 1

    def __len__(self) -> int:
        return len(self._waiting) + len(self._submitted)

    @property
    def waiting(self) -> int:
        """Runs not yet submitted."""
        return len(self._waiting)

    @property
    def submitted(self) -> int:
        """Sequences in the worker's batch, those asked to leave included until the worker says they have."""
        return len(self._submitted) + len(self._leaving)

    @property
    def kv_blocks_reserved(self) -> int:
        """Blocks that submitted and leaving sequences hold together."""
        return sum(run.kv_blocks for run in self._submitted.values()) + sum(self._leaving.values())

    def append(self, run: Run) -> None:
        """Wait at the end."""
        self._waiting.append(run)

    def admit(self, *, kv_blocks_total: int, max_sequences: int) -> Iterator[tuple[int, Run]]:
        """Submit runs while they fit, in order; yields each with its new key. Strictly first come, first served."""
        free = kv_blocks_total - self.kv_blocks_reserved
        while self._waiting and self.submitted < max_sequences:
            run = self._waiting[0]
            alone = run.deaths >= SUSPECT_DEATHS or any(r.deaths >= SUSPECT_DEATHS for r in self._submitted.values())
            if run.kv_blocks > free or (alone and self.submitted):
                return
            free -= run.kv_blocks
            yield self._submit(self._waiting.popleft()), run

    def resubmit(self, run: Run) -> int:
        """A new key for a submitted run, in the place it has; its old sequence must be cancelled."""
        self.leave(run)
        return self._submit(run)

    def _submit(self, run: Run) -> int:
        run.key, self._next_key = self._next_key, self._next_key + 1
        self._submitted[run.key] = run
        return run.key

    def get(self, key: int) -> Run | None:
        """The run behind a sequence; None when it was asked to leave."""
        return self._submitted.get(key)

    def leave(self, run: Run) -> int | None:
        """Forget a run. Returns the key to cancel in the worker, if it computes there; its blocks stay held until
        ``left``.
        """
        if run.key is None:
            if run in self._waiting:
                self._waiting.remove(run)
            return None
        key, run.key = run.key, None
        if self._submitted.pop(key, None) is None:
            return None
        self._leaving[key] = run.kv_blocks
        return key

    def left(self, key: int) -> None:
        """The worker says that a sequence is gone, finished or cancelled."""
        self._leaving.pop(key, None)
        run = self._submitted.pop(key, None)
        if run is not None:
            run.key = None

    def worker_died(self) -> list[Run]:
        """Put every submitted run back in front, in its old order; returns them."""
        orphans = [self._submitted[key] for key in sorted(self._submitted)]
        for run in orphans:
            run.key = None
            run.deaths += 1
        self._waiting.extendleft(reversed(orphans))
        self._submitted.clear()
        self._leaving.clear()
        return orphans

    def drain(self) -> list[Run]:
        """Forget every run; returns them."""
        self.worker_died()
        runs = list(self._waiting)
        self._waiting.clear()
        return runs
