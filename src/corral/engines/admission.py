"""Admission: which waiting sequence joins which worker's batch, and when.

A sequence is submitted to one worker whose own free room holds it: room is never added up over workers. Sequences
whose worker died come first, and move to whichever worker takes them. Sequences of low priority come last: they are
submitted while no other sequence waits, and leave their worker for one that needs the room.
"""

from collections import deque
from collections.abc import Iterator, Sequence

from corral.engines.base import EngineInfo, EngineRequest
from corral.engines.batch import WorkerBatch
from corral.engines.fair_queue import FairQueue
from corral.engines.placement import Placement
from corral.engines.preemption import interrupted_readers, may_read, victims_for
from corral.engines.sequences import QueuedSequence

SUSPECT_DEATHS = 2
"""After this many deaths a sequence is computed alone on its worker until it has passed the token at which the worker
died: if it kills a worker again, no other sequence is affected."""


class Admission:
    """Waiting sequences and the batches of all workers."""

    def __init__(self, batches: Sequence[WorkerBatch], placement: Placement) -> None:
        self._batches = batches
        self._placement = placement
        self._queue = FairQueue()
        self._low_priority = FairQueue()
        self._returned: deque[QueuedSequence] = deque()
        """Sequences whose worker died; served before all others."""
        self._next_key = 1
        self.is_paused = False
        """Whether only sequences that a worker has begun are submitted."""

    @property
    def waiting(self) -> int:
        """Sequences that are not submitted."""
        return len(self._queue) + len(self._returned) + len(self._low_priority)

    @property
    def submitted(self) -> int:
        """Sequences in all batches."""
        return sum(batch.submitted for batch in self._batches)

    @property
    def is_computing(self) -> bool:
        """Whether sequences that a worker has begun are not over."""
        return bool(self.submitted or self._returned)

    @property
    def has_suspects(self) -> bool:
        """Whether a sequence is computed alone, or waits for that."""
        return self.computes_suspect or any(sequence.is_suspect for sequence in self._returned)

    @property
    def computes_suspect(self) -> bool:
        """Whether a sequence is computed alone now."""
        return any(batch.computes_suspect for batch in self._batches)

    @property
    def only_suspects(self) -> bool:
        """Whether suspects keep every worker from taking other sequences."""
        reserved = self._reserved()
        return self.has_suspects and not any(self._is_open(batch, reserved) for batch in self._batches)

    def may_wait(self, request: EngineRequest, *, max_waiting: int) -> bool:
        """Whether one more sequence may wait, of *max_waiting* of its priority.

        A flow may have as many as it leaves places for others.
        """
        queue = self._queue_of(request)
        waiting = len(queue) if request.low_priority else len(queue) + len(self._returned)
        return queue.waiting_of(request.flow) < max_waiting - waiting

    def _queue_of(self, request: EngineRequest) -> FairQueue:
        return self._low_priority if request.low_priority else self._queue

    def append(self, sequence: QueuedSequence) -> None:
        """Add a sequence at the end of its flow."""
        self._queue_of(sequence.request).append(sequence)

    def in_order(self) -> Iterator[QueuedSequence]:
        """Waiting sequences in the order in which they would be served if each fitted and none came or left."""
        yield from self._returned
        yield from self._queue
        yield from self._low_priority

    def admit(self) -> Iterator[tuple[WorkerBatch, int, QueuedSequence]]:
        """Submit sequences while they fit; yields each with its batch and its new key.

        A sequence that fits no worker holds up its own flow. Others may overtake it until they have cost as many tokens
        as it asks for; then all wait for it.
        """
        while (found := self._next()) is not None:
            sequence, batch = found
            if sequence in self._returned:
                self._returned.remove(sequence)
            else:
                self._queue_of(sequence.request).take(sequence)
            self._placement.placed(batch, sequence)
            yield batch, self._submit(sequence, batch), sequence

    def _next(self) -> tuple[QueuedSequence, WorkerBatch] | None:
        if not any(batch.is_ready and batch.submitted < batch.max_sequences for batch in self._batches):
            return None
        reserved = self._reserved()
        suspect = next((sequence for sequence in self._returned if sequence.is_suspect), None)
        if suspect is not None and (batch := self._choose(suspect, reserved)) is not None:
            return suspect, batch
        returned = next((sequence for sequence in self._returned if not sequence.is_suspect), None)
        if returned is not None:
            batch = self._choose(returned, reserved)
            return None if batch is None else (returned, batch)
        if self.is_paused:
            return None
        queue = self._queue if len(self._queue) else self._low_priority
        held_up: list[QueuedSequence] = []
        for sequence in queue.heads():
            is_patient = all(one.overtaken_tokens + sequence.cost_tokens <= one.cost_tokens for one in held_up)
            if is_patient and (batch := self._choose(sequence, reserved)) is not None:
                for one in held_up:
                    one.overtaken_tokens += sequence.cost_tokens
                return sequence, batch
            held_up.append(sequence)
        return None

    def _choose(self, sequence: QueuedSequence, reserved: WorkerBatch | None) -> WorkerBatch | None:
        if sequence.is_suspect:
            candidates = [batch for batch in self._batches if not batch.submitted and batch.has_room(sequence)]
        else:
            candidates = [b for b in self._batches if self._is_open(b, reserved) and b.has_room(sequence)]
        if sequence.request.low_priority:
            candidates = [batch for batch in candidates if may_read(sequence, batch)]
        return self._placement.choose(sequence, candidates, self._batches)

    def _is_open(self, batch: WorkerBatch, reserved: WorkerBatch | None) -> bool:
        """Whether a worker takes sequences that are not suspects."""
        return batch.is_ready and batch is not reserved and not batch.computes_suspect

    def _reserved(self) -> WorkerBatch | None:
        """The worker that takes no others because a suspect waits until it is empty: the one that is so first."""
        if not any(sequence.is_suspect for sequence in self._returned):
            return None
        expected = [batch for batch in self._batches if not batch.is_lost]
        return min(
            expected, key=lambda batch: (not batch.computes_suspect, batch.submitted, not batch.is_ready), default=None
        )

    def make_room(self) -> list[tuple[WorkerBatch, int]]:
        """Take sequences of low priority off their workers for others; returns batch and key of each, to be cancelled.

        Their blocks stay reserved until the workers confirm, one step later.
        """
        victims = list(interrupted_readers(self._batches))
        if len(self._queue) and not self.is_paused and any(batch.low_priority for batch in self._batches):
            reserved = self._reserved()
            victims += victims_for(self._queue, [b for b in self._batches if self._is_open(b, reserved)])
        cancelled: list[tuple[WorkerBatch, int]] = []
        for batch, sequence in victims:
            key = sequence.key
            if key is not None and batch.cancel(key):
                sequence.evictions += 1
                self._low_priority.put_back(sequence)
                cancelled.append((batch, key))
        return cancelled

    def resubmit(self, sequence: QueuedSequence, batch: WorkerBatch) -> int:
        """Give a submitted sequence a new key in the same batch. The caller cancels the old key."""
        if sequence.key is not None:
            batch.cancel(sequence.key)
        return self._submit(sequence, batch)

    def _submit(self, sequence: QueuedSequence, batch: WorkerBatch) -> int:
        key, self._next_key = self._next_key, self._next_key + 1
        batch.add(key, sequence)
        return key

    def leave(self, sequence: QueuedSequence) -> tuple[WorkerBatch, int] | None:
        """Forget a sequence. Returns batch and key to cancel if a worker computes it; its blocks stay reserved until
        the worker confirms.
        """
        key = sequence.key
        if key is not None:
            return next(((batch, key) for batch in self._batches if batch.cancel(key)), None)
        if sequence in self._returned:
            self._returned.remove(sequence)
        else:
            self._queue_of(sequence.request).remove(sequence)
        return None

    def worker_ready(self, batch: WorkerBatch, info: EngineInfo) -> None:
        """Let a worker take sequences."""
        batch.info, batch.is_ready, batch.is_lost = info, True, False

    def worker_lost(self, batch: WorkerBatch) -> None:
        """Stop waiting for a worker; ``worker_ready`` undoes it."""
        batch.is_lost = True

    def worker_died(self, batch: WorkerBatch) -> list[QueuedSequence]:
        """Put a worker's sequences back in front, suspects first, in their old order; returns them.

        Those of low priority go to the front of their own queue, unless they are suspects.
        """
        self._placement.died(batch, blamed=batch.computes_suspect)
        orphans = batch.clear()
        for sequence in orphans:
            sequence.deaths += 1
            sequence.suspicion += 1
            sequence.is_suspect = sequence.suspicion >= SUSPECT_DEATHS
        orphans.sort(key=lambda sequence: not sequence.is_suspect)
        for sequence in reversed(orphans):
            if sequence.request.low_priority and not sequence.is_suspect:
                self._low_priority.put_back(sequence)
            else:
                self._returned.appendleft(sequence)
        return orphans

    def acquit(self, sequence: QueuedSequence) -> None:
        """Let others be computed beside a suspect again; it becomes a suspect again at its next death."""
        sequence.is_suspect, sequence.suspicion = False, SUSPECT_DEATHS - 1

    def make_way(self, sequence: QueuedSequence) -> tuple[WorkerBatch, int] | None:
        """Put a submitted sequence behind waiting suspects. Returns batch and key to cancel; None if none wait."""
        if not any(one.is_suspect for one in self._returned):
            return None
        left = self.leave(sequence)
        self._returned.append(sequence)
        return left

    def release_suspects(self) -> None:
        """Let others be computed beside every suspect. Those that had no turn alone may get one after another death."""
        for batch in self._batches:
            for sequence in batch.sequences:
                sequence.is_suspect = False
        for sequence in self._returned:
            if sequence.is_suspect:
                self.acquit(sequence)

    def drain_batches(self) -> list[QueuedSequence]:
        """Forget all sequences that have been submitted, those whose worker died included; returns them."""
        sequences = [sequence for batch in self._batches for sequence in batch.clear()]
        sequences += self._returned
        self._returned.clear()
        return sequences

    def drain_waiting(self) -> list[QueuedSequence]:
        """Forget the sequences that wait for their first worker; returns them."""
        return [*self._queue.clear(), *self._low_priority.clear()]

    def drain(self) -> list[QueuedSequence]:
        """Forget all sequences; returns them."""
        return [*self.drain_batches(), *self.drain_waiting()]
