"""The engine that the rest of Corral sees: a fair queue in front of one or several workers.

Requests are accepted before a worker is ready and while none runs; they wait with a position. If a worker dies, what
it computed is submitted again, to whichever worker has room, from the tokens so far; readers see a pause.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import replace
from math import ceil
from typing import Final

from corral.core.errors import CorralError, EngineUnavailable, InvalidRequest, ModelLoading, Overloaded
from corral.engines.base import Capabilities, EngineInfo, EngineLimits, EngineRequest, EngineRun, check_request
from corral.engines.constraint_check import ConstraintChecker
from corral.engines.dispatch import Dispatcher
from corral.engines.placement import Placement
from corral.engines.policy import QueuePolicy
from corral.engines.sequences import QueuedSequence
from corral.engines.stats import EnginePhase, EngineState, EngineStats, WorkerStats
from corral.engines.stepper import Progress
from corral.engines.worker import Worker

RETRY_AFTER_S: Final = 2
"""When nothing better is known."""
MOST_RETRY_AFTER_S: Final = 600
_SUMMARY_PHASES: Final = (
    EnginePhase.READY,
    EnginePhase.RESTARTING,
    EnginePhase.LOADING,
    EnginePhase.WAITING,
    EnginePhase.FAILED,
    EnginePhase.UNLOADED,
)
"""An engine is in the first of these phases in which one of its workers is."""


class QueuedEngine:
    """An Engine over workers with the same weights; see ``engines.base.Engine``."""

    def __init__(
        self,
        workers: Sequence[Worker],
        *,
        limits: EngineLimits,
        capabilities: Capabilities,
        placement: Placement | None = None,
        policy: QueuePolicy | None = None,
        checker: ConstraintChecker | None = None,
        on_progress: Callable[[Progress], None] = lambda _: None,
        expected_load_s: Callable[[], float | None] = lambda: None,
    ) -> None:
        """Describe an engine; ``run`` starts it.

        Args:
            workers: one or more, with the same weights.
            limits: of requests, until a worker is ready and says more.
            capabilities: of the workers.
            placement: chooses among the workers.
            policy: when requests are refused, and how often failures are retried.
            checker: tries the constraints of requests; without it, they are refused.
            on_progress: called with the progress of each load.
            expected_load_s: seconds until a load that is pending ends; None if unknown.
        """
        self.capabilities = capabilities
        self._limits = limits
        self._policy = policy or QueuePolicy()
        self._checker = checker
        self._expected_load_s = expected_load_s
        self._dispatcher = Dispatcher(
            workers,
            max_sequences=limits.max_sequences,
            placement=placement or Placement(),
            policy=self._policy,
            report=on_progress,
        )
        self._is_running = False
        self._is_closed = False

    @property
    def info(self) -> EngineInfo:
        """See ``Engine.info``."""
        if self._dispatcher.info is None:
            self._dispatcher.load.check()
            raise EngineUnavailable("The model is still loading.")
        return self._dispatcher.info

    @property
    def loaded(self) -> EngineInfo | None:
        """What was loaded last, be it loaded now or not; None before the first load."""
        return self._dispatcher.info

    @property
    def limits(self) -> EngineLimits:
        """See ``Engine.limits``."""
        infos = [worker.batch.info for worker in self._dispatcher.workers]
        known = [info for info in infos if info is not None]
        if not known:
            return self._limits
        info = max(known, key=lambda one: one.room_tokens)
        return replace(
            self._limits,
            vocab_size=info.vocab_size,
            context_tokens=info.context_tokens,
            room_tokens=info.room_tokens,
        )

    async def ready(self) -> None:
        """See ``Engine.ready``."""
        await self._dispatcher.load.wait()

    def stats(self) -> EngineStats:
        """See ``Engine.stats``."""
        workers = tuple(worker.stats() for worker in self._dispatcher.workers)
        batches = [worker.batch for worker in self._dispatcher.workers]
        counters = self._dispatcher.counters
        return EngineStats(
            state=self._state(workers),
            running=self._dispatcher.admission.submitted,
            waiting=self._dispatcher.admission.waiting,
            kv_blocks_reserved=sum(batch.kv_blocks_reserved for batch in batches),
            kv_usage_percent=sum(worker.kv_usage_percent for worker in self._dispatcher.workers) / len(batches),
            emitted_tokens=counters.emitted,
            delivered_tokens=counters.emitted - counters.discarded - counters.replayed,
            discarded_tokens=counters.discarded,
            replayed_tokens=counters.replayed,
            restarts=sum(worker.restarts for worker in workers),
            recovering=self._dispatcher.recovery.active,
            workers=workers,
        )

    def _state(self, workers: Sequence[WorkerStats]) -> EngineState:
        if not self._is_running:
            return EngineState(EnginePhase.UNLOADED)
        return min((worker.state for worker in workers), key=lambda state: _SUMMARY_PHASES.index(state.phase))

    @asynccontextmanager
    async def run(self) -> AsyncGenerator[None]:
        """Load, and keep the workers running while the block is active; see ``Engine.run``."""
        if self._is_running:
            raise RuntimeError("the engine runs already")
        self._is_running = True
        self._dispatcher.admission.is_paused = False
        if not self._is_closed:
            self._dispatcher.load.reset()
        loops = [asyncio.create_task(worker.run()) for worker in self._dispatcher.workers]  # noqa: TID251 - owned here
        try:
            async with self._checker.run() if self._checker else nullcontext():
                yield
        finally:
            self._is_running = False
            for loop in loops:
                loop.cancel()
            self._end_sequences()  # before the next await: new requests must wait, not join a worker that stops
            results = await asyncio.gather(*loops, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result

    def _end_sequences(self) -> None:
        error = EngineUnavailable("The engine is shut down.")
        self._dispatcher.fail_submitted(error)
        if self._is_closed or not self._policy.accepts_while_unloaded:
            self._dispatcher.fail_all(error)
            self._dispatcher.load.settle(error)
        else:
            self._dispatcher.load.reset()

    def expect_weights(self, weights_id: str | None) -> None:
        """Refuse a first load of other weights; None takes any."""
        self._dispatcher.expected_weights_id = weights_id

    @property
    def is_computing(self) -> bool:
        """Whether sequences that a worker has begun are not over."""
        return self._dispatcher.admission.is_computing

    def pause_admission(self) -> None:
        """Begin no more sequences; those that wait do so until ``run`` is entered again."""
        self._dispatcher.admission.is_paused = True

    def fail_load(self, error: CorralError) -> None:
        """End the waiting requests, and refuse others, because there is no load now; ``expect_load`` undoes it."""
        self._dispatcher.load.settle(error)
        self._dispatcher.fail_waiting(error)

    def expect_load(self) -> None:
        """Let requests wait for a load again."""
        if not self._is_closed:
            self._dispatcher.load.reset()

    def close_admission(self) -> None:
        """See ``Engine.close_admission``."""
        self._is_closed = True
        error = EngineUnavailable("The engine is shut down.")
        self._dispatcher.fail_waiting(error)
        if self._dispatcher.load.is_pending:
            self._dispatcher.load.settle(error)
        if self._checker is not None:
            self._checker.close()

    @asynccontextmanager
    async def open(self, request: EngineRequest) -> AsyncGenerator[EngineRun]:
        """Compute one request; see ``Engine.open``."""
        self._check_open(is_patient=request.low_priority)
        check_request(request, self.limits)
        if request.constraint is not None and not self._policy.takes_unchecked:
            request = await self._checked(request)
            self._check_open(is_patient=request.low_priority)
        if not self._dispatcher.admission.may_wait(request, max_waiting=self._policy.max_waiting):
            raise Overloaded("Too many requests are waiting; try again soon.", retry_after_s=RETRY_AFTER_S)
        sequence = QueuedSequence(request, can_replay=self.capabilities.deterministic_replay)
        self._dispatcher.enqueue(sequence)
        try:
            self._check_wait(sequence)
            yield sequence
        finally:  # no await in here: it must work while being cancelled
            self._dispatcher.leave(sequence)

    async def _checked(self, request: EngineRequest) -> EngineRequest:
        if self._checker is None:
            raise InvalidRequest("Answers of this model cannot be constrained.", param="response_format")
        return replace(request, constraint=await self._checker.check(request))

    def _check_open(self, *, is_patient: bool) -> None:
        """Refuse a request that could not be computed, or not soon enough unless *is_patient*."""
        self._dispatcher.load.check()
        if self._is_closed or not (self._is_running or self._policy.accepts_while_unloaded):
            raise EngineUnavailable("The engine is shut down.")
        self._dispatcher.recovery.check_open()
        expected_s = self._expected_load_s() if self._dispatcher.load.is_pending else None
        if expected_s is not None and not is_patient:
            self._check_patience(expected_s, "until the model is loaded", ModelLoading)

    def _check_wait(self, sequence: QueuedSequence) -> None:
        if sequence.key is not None or sequence.is_over:
            return
        wait_s = self._dispatcher.estimate_wait_s(sequence)
        if wait_s is not None:
            self._check_patience(wait_s, "for its turn")

    def _check_patience(self, wait_s: float, what_for: str, refusal: type[Overloaded] = Overloaded) -> None:
        if wait_s > self._policy.max_queue_wait_s:
            retry_after_s = min(ceil(wait_s - self._policy.max_queue_wait_s), MOST_RETRY_AFTER_S)
            raise refusal(f"This request would wait about {wait_s:.0f} s {what_for}.", retry_after_s=retry_after_s)
