"""Dispatch: submits waiting sequences to workers and hands their tokens to the readers."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from corral.core.errors import CheckpointRefused, CorralError, EngineFailed, InvalidRequest
from corral.engines.admission import Admission
from corral.engines.base import EngineInfo, check_request
from corral.engines.batch import WorkerBatch
from corral.engines.loading import LoadOutcome, public
from corral.engines.placement import Placement
from corral.engines.policy import QueuePolicy
from corral.engines.positions import Positions
from corral.engines.recovery import CrashRecovery
from corral.engines.sequences import QueuedSequence
from corral.engines.stepper import Report, SequenceOutput
from corral.engines.supervision import SupervisedWorker
from corral.engines.throughput import ThroughputEstimator
from corral.engines.worker import SequenceRefused, Worker, WorkerStep


@dataclass(slots=True)
class TokenCounters:
    """Tokens since the gateway started; see ``EngineStats``."""

    emitted: int = 0
    discarded: int = 0
    replayed: int = 0


class Dispatcher:
    """The workers of one engine, and the sequences that they compute. Implements ``supervision.WorkerListener``."""

    def __init__(
        self,
        workers: Sequence[Worker],
        *,
        max_sequences: int,
        placement: Placement,
        policy: QueuePolicy,
        report: Report,
    ) -> None:
        batches = [WorkerBatch(index, max_sequences=max_sequences) for index in range(len(workers))]
        self.workers = [
            SupervisedWorker(worker, batch, policy=policy, listener=self, report=report)
            for worker, batch in zip(workers, batches, strict=True)
        ]
        self.admission = Admission(batches, placement)
        self.recovery = CrashRecovery(self.admission, limit_s=policy.max_recovery_s, on_released=self.admit)
        self.estimator = ThroughputEstimator()
        self.counters = TokenCounters()
        self.load = LoadOutcome()
        self.info: EngineInfo | None = None
        """What the worker that was last ready has loaded."""
        self.expected_weights_id: str | None = None
        """Of the weights that requests were accepted for before the first load; None if unknown."""
        self._policy = policy
        self._placement = placement
        self._positions = Positions(self.admission)
        self._step_began_s = dict.fromkeys(range(len(batches)), 0.0)

    def enqueue(self, sequence: QueuedSequence) -> None:
        """Submit a sequence at its turn."""
        sequence.check_resumable()
        if not sequence.is_over:
            self.admission.append(sequence)
            self.admit()

    def leave(self, sequence: QueuedSequence) -> None:
        """Forget a sequence whose reader has left."""
        self.counters.discarded += sequence.unread_tokens
        if sequence.emitted:
            self.estimator.sequence_ended(sequence)
        self._cancel(self.admission.leave(sequence))
        self.admit()

    def admit(self) -> None:
        """Submit what fits now."""
        self.recovery.update()
        for batch, key, sequence in self.admission.admit():
            if batch.submitted == 1:
                self._step_began_s[batch.index] = asyncio.get_running_loop().time()
            sequence.place(0)
            self.workers[batch.index].worker.submit(key, sequence.submission())
        for left in self.admission.make_room():
            self._cancel(left)
        self._positions.schedule()

    def estimate_wait_s(self, sequence: QueuedSequence) -> float | None:
        """Tell a waiting sequence its position; returns the expected seconds until its turn, None if unknown.

        The turn of one of low priority cannot be foreseen: it depends on who comes until then.
        """
        ahead = list(takewhile(lambda one: one is not sequence, self.admission.in_order()))
        sequence.place(len(ahead) + 1)
        if sequence.request.low_priority:
            return None
        batches = [worker.batch for worker in self.workers if not worker.batch.is_lost]
        return self.estimator.wait_s(
            running=[one for batch in batches for one in batch.sequences if not one.request.low_priority],
            ahead=ahead,
            tokens=sum(one.cost_tokens for one in (*ahead, sequence)) + sum(batch.missing_tokens for batch in batches),
            sequences=len(ahead) + 1 + sum(batch.missing_places for batch in batches),
            workers=max(1, len(batches)),
        )

    def fail_all(self, error: CorralError) -> None:
        """End every sequence with an error."""
        for sequence in self.admission.drain():
            sequence.fail(error)

    def fail_waiting(self, error: CorralError) -> None:
        """End the sequences that wait for their first worker; the others go on."""
        for sequence in self.admission.drain_waiting():
            sequence.fail(error)

    def fail_submitted(self, error: CorralError) -> None:
        """End the sequences that a worker computes, or computed before it died; the others wait."""
        for sequence in self.admission.drain_batches():
            sequence.fail(error)

    def worker_ready(self, worker: SupervisedWorker, info: EngineInfo) -> None:
        """See ``WorkerListener``."""
        known_id = self.expected_weights_id if self.info is None else self.info.weights_id
        if known_id is not None and info.weights_id != known_id:
            # Names, prices and running answers belong to the weights that were loaded first.
            raise CheckpointRefused("The weights on disk were replaced while they were served; restart Corral.")
        self.info = info
        self.admission.worker_ready(worker.batch, info)
        self.load.settle(None)
        self._fail_oversized()
        self.admit()

    def _fail_oversized(self) -> None:
        """End the waiting sequences that fit no worker: they were accepted by limits from before the load."""
        infos = [worker.batch.info for worker in self.workers if not worker.batch.is_lost]
        rooms = [info for info in infos if info is not None]
        if len(rooms) < len(infos):
            return
        roomiest = max(rooms, key=lambda info: info.room_tokens)
        for sequence in list(self.admission.in_order()):
            try:
                check_request(sequence.request, roomiest)
            except InvalidRequest as error:
                self.admission.leave(sequence)
                sequence.fail(error)

    def worker_stepped(self, worker: SupervisedWorker, step: WorkerStep) -> None:
        """See ``WorkerListener``."""
        index, now_s = worker.batch.index, asyncio.get_running_loop().time()
        began_s, self._step_began_s[index] = self._step_began_s[index], now_s
        tokens = sum(self._distribute(worker, output) for output in step.outputs)
        self.estimator.step_done(tokens, now_s - began_s)
        for key in step.cancelled:
            worker.batch.remove(key)
        self.admit()

    def _distribute(self, worker: SupervisedWorker, output: SequenceOutput) -> int:
        """Returns how many tokens the worker computed for it, prompt included."""
        self.counters.emitted += len(output.ids)
        sequence = worker.batch.get(output.key)
        if sequence is None:
            self.counters.discarded += len(output.ids)
            return len(output.ids)
        prompt_tokens = 0 if sequence.emitted else len(sequence.request.prompt_ids)
        new_tokens = sequence.receive(output)
        self.counters.replayed += len(output.ids) - (new_tokens or 0)
        if output.end is not None:
            self._placement.finished(worker.batch)
        if new_tokens and sequence.is_suspect:
            self._acquit(sequence, is_over=output.end is not None)
        if new_tokens is None:
            self._restart(worker, sequence, output.key)
        elif output.end is not None:
            worker.batch.remove(output.key)
        return prompt_tokens + len(output.ids)

    def _acquit(self, sequence: QueuedSequence, *, is_over: bool) -> None:
        self.admission.acquit(sequence)
        if not is_over:
            self._cancel(self.admission.make_way(sequence))

    def _restart(self, worker: SupervisedWorker, sequence: QueuedSequence, key: int) -> None:
        """Submit a sequence anew because its replay gave other tokens."""
        worker.worker.cancel(key)
        if sequence.is_over:
            self.admission.leave(sequence)
        else:
            worker.worker.submit(self.admission.resubmit(sequence, worker.batch), sequence.submission())

    def sequence_refused(self, worker: SupervisedWorker, refused: SequenceRefused) -> None:
        """See ``WorkerListener``."""
        sequence = worker.batch.get(refused.key)
        worker.batch.remove(refused.key)
        if sequence is not None:
            sequence.fail(InvalidRequest(refused.message))
        self.admit()

    def worker_exited(self, worker: SupervisedWorker) -> None:
        """See ``WorkerListener``."""
        orphans = self.admission.worker_died(worker.batch)
        self.recovery.worker_died()
        for sequence in orphans:
            if sequence.suspicion >= self._policy.max_deaths or sequence.deaths >= 2 * self._policy.max_deaths:
                sequence.fail(EngineFailed("The engine died on this request several times; it was given up."))
            sequence.check_resumable()
            if sequence.is_over:
                self.admission.leave(sequence)
        if pause_s := self._placement.pause_s(worker.batch):
            asyncio.get_running_loop().call_later(pause_s, self.admit)
        self.admit()

    def worker_failed(self, worker: SupervisedWorker) -> None:
        """See ``WorkerListener``."""
        self.admission.worker_lost(worker.batch)
        if all(one.failure is not None for one in self.workers) and worker.failure is not None:
            self.load.settle(worker.failure)
            self.fail_all(public(worker.failure))
        else:
            self.admit()

    def _cancel(self, left: tuple[WorkerBatch, int] | None) -> None:
        if left is not None:
            batch, key = left
            self.workers[batch.index].worker.cancel(key)
