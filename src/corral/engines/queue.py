"""Which run may join the batch: each flow in turn by the tokens it asks for, and only what can finish.

A run holds, from the moment it is submitted, KV blocks for its prompt and its whole answer. So what runs never has to
be preempted, and no engine ever ends a sequence for lack of cache.

Flows share by start-time fair queueing (Goyal, Vin, Cheng, 1996): the flow whose next run has the least start tag is
served; a tag is the cost of what the flow was served before, and a flow that comes anew starts where the others are.
"""

import heapq
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from corral.engines.base import EngineInfo, EngineRequest
from corral.engines.runs import Run

SUSPECT_DEATHS = 2
"""After this many deaths a run is computed alone until it has passed the token at which the worker died: if it kills a
worker again, it takes nobody with it."""


def kv_blocks(request: EngineRequest, info: EngineInfo) -> int:
    """Blocks that prompt and whole answer fill, rounded up."""
    if info.kv_block_tokens is None:
        return 0
    return -(-(len(request.prompt_ids) + request.max_new_tokens) // info.kv_block_tokens)


@dataclass(slots=True)
class _Flow:
    tag: int
    """Start tag of the next run, in tokens."""
    waiting: deque[Run] = field(default_factory=deque[Run])


class RunQueue:
    """Waiting and submitted runs, and the blocks that the latter hold."""

    def __init__(self) -> None:
        self._returned: deque[Run] = deque()
        """Runs whose worker died; before all others, in the order they had."""
        self._flows: dict[str, _Flow] = {}
        """Those that wait, and those that were served more than ``_served_tag``."""
        self._served_tag = 0
        self._waiting = 0
        self._arrivals = 0
        self._submitted: dict[int, Run] = {}
        self._leaving: dict[int, int] = {}
        self._next_key = 1

    @property
    def waiting(self) -> int:
        """Runs not yet submitted."""
        return self._waiting

    @property
    def submitted(self) -> int:
        """Sequences in the worker's batch, those asked to leave included until the worker says they have."""
        return len(self._submitted) + len(self._leaving)

    @property
    def kv_blocks_reserved(self) -> int:
        """Blocks that submitted and leaving sequences hold together."""
        return sum(run.kv_blocks for run in self._submitted.values()) + sum(self._leaving.values())

    @property
    def has_suspects(self) -> bool:
        """Whether a run is computed alone, or is to be."""
        return self.computes_suspect or any(run.suspect for run in self._returned)

    @property
    def computes_suspect(self) -> bool:
        """Whether a run is computed alone."""
        return any(run.suspect for run in self._submitted.values())

    def waiting_of(self, flow: str) -> int:
        """Runs of one flow that are not yet submitted."""
        return len(self._flows[flow].waiting) if flow in self._flows else 0

    def running(self) -> Iterable[Run]:
        """Submitted runs that still have a reader."""
        return self._submitted.values()

    def append(self, run: Run) -> None:
        """Wait at the end of the run's flow."""
        flow = self._flows.setdefault(run.request.flow, _Flow(self._served_tag))
        if not flow.waiting:
            flow.tag = max(flow.tag, self._served_tag)
        self._arrivals += 1
        run.arrival = self._arrivals
        flow.waiting.append(run)
        self._waiting += 1

    def in_order(self) -> Iterator[Run]:
        """Waiting runs as they would be served if each fitted and nobody came or left."""
        yield from self._returned
        heads = [(flow.tag, flow.waiting[0].arrival, 0, tuple(flow.waiting)) for flow in self._backlogged()]
        heapq.heapify(heads)
        while heads:
            tag, _, index, runs = heads[0]
            yield runs[index]
            if index + 1 == len(runs):
                heapq.heappop(heads)
            else:
                head = (tag + runs[index].cost_tokens, runs[index + 1].arrival, index + 1, runs)
                heapq.heapreplace(heads, head)

    def admit(self, *, kv_blocks_total: int, max_sequences: int) -> Iterator[tuple[int, Run]]:
        """Submit runs while they fit; yields each with its new key.

        A run that does not fit yet holds up its own flow. Others may overtake it until they have cost as many tokens
        as it asks for; then everybody waits for it.
        """
        while self.submitted < max_sequences:
            run = self._next(kv_blocks_total - self.kv_blocks_reserved)
            if run is None:
                return
            self._take(run)
            yield self._submit(run), run

    def _next(self, free_blocks: int) -> Run | None:
        if self._returned:
            return self._returned[0] if self._fits(self._returned[0], free_blocks) else None
        held_up: list[Run] = []
        for flow in sorted(self._backlogged(), key=lambda flow: (flow.tag, flow.waiting[0].arrival)):
            run = flow.waiting[0]
            patient = all(one.overtaken_tokens + run.cost_tokens <= one.cost_tokens for one in held_up)
            if patient and self._fits(run, free_blocks):
                for one in held_up:
                    one.overtaken_tokens += run.cost_tokens
                return run
            held_up.append(run)
        return None

    def _fits(self, run: Run, free_blocks: int) -> bool:
        alone = run.suspect or self.computes_suspect
        return run.kv_blocks <= free_blocks and not (alone and self.submitted)

    def _take(self, run: Run) -> None:
        self._waiting -= 1
        if self._returned:
            self._returned.popleft()
            return
        flow = self._flows[run.request.flow]
        flow.waiting.popleft()
        if flow.tag > self._served_tag:
            self._served_tag = flow.tag
            self._flows = {
                name: one
                for name, one in self._flows.items()
                if one.waiting or one is flow or one.tag > self._served_tag
            }
        flow.tag += run.cost_tokens

    def _backlogged(self) -> Iterator[_Flow]:
        return (flow for flow in self._flows.values() if flow.waiting)

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
            self._stop_waiting(run)
            return None
        key, run.key = run.key, None
        if self._submitted.pop(key, None) is None:
            return None
        self._leaving[key] = run.kv_blocks
        return key

    def _stop_waiting(self, run: Run) -> None:
        flow = self._flows.get(run.request.flow)
        for runs in (self._returned, flow.waiting) if flow else (self._returned,):
            if run in runs:
                runs.remove(run)
                self._waiting -= 1
                return

    def left(self, key: int) -> None:
        """The worker says that a sequence is gone, finished or cancelled."""
        self._leaving.pop(key, None)
        run = self._submitted.pop(key, None)
        if run is not None:
            run.key = None

    def worker_died(self) -> list[Run]:
        """Put every submitted run back in front, suspects first, in their old order; returns them."""
        orphans = [self._submitted[key] for key in sorted(self._submitted)]
        for run in orphans:
            run.key = None
            run.deaths += 1
            run.suspicion += 1
            run.suspect = run.suspicion >= SUSPECT_DEATHS
        orphans.sort(key=lambda run: not run.suspect)
        self._returned.extendleft(reversed(orphans))
        self._waiting += len(orphans)
        self._submitted.clear()
        self._leaving.clear()
        return orphans

    def acquit(self, run: Run) -> None:
        """Let others be computed beside a suspect again, which is to be suspected anew at its next death."""
        run.suspect, run.suspicion = False, SUSPECT_DEATHS - 1

    def make_way(self, run: Run) -> int | None:
        """Put a submitted run behind the suspects that wait; returns the key to cancel. None: no suspect waits."""
        if not any(one.suspect for one in self._returned):
            return None
        key = self.leave(run)
        self._returned.append(run)
        self._waiting += 1
        return key

    def release_suspects(self) -> None:
        """Let others be computed beside every suspect. Those that had no turn alone may get one after another death."""
        for run in self._submitted.values():
            run.suspect = False
        for run in self._returned:
            if run.suspect:
                self.acquit(run)

    def drain(self) -> list[Run]:
        """Forget every run; returns them."""
        self.worker_died()
        runs = list(self.in_order())
        self._returned.clear()
        self._flows.clear()
        self._waiting = 0
        return runs
