"""Keeps one worker running: starts it, passes on its results, and starts it again after it died."""

import asyncio
from contextlib import aclosing
from typing import Protocol

import structlog

from corral.core.errors import CheckpointRefused, CorralError, EngineUnavailable
from corral.engines.base import EngineInfo
from corral.engines.batch import WorkerBatch
from corral.engines.policy import QueuePolicy
from corral.engines.stats import EnginePhase, EngineState, WorkerStats
from corral.engines.stepper import Report
from corral.engines.worker import SequenceRefused, Worker, WorkerDiedError, WorkerStep

_log = structlog.get_logger(__name__)


class WorkerListener(Protocol):
    """Receiver of a supervised worker's events; the methods are called in the event loop and must not block."""

    def worker_ready(self, worker: "SupervisedWorker", info: EngineInfo) -> None:
        """The worker accepts sequences.

        Raises:
            CheckpointRefused: it must not be used: it has loaded other weights than before.
        """
        ...

    def worker_stepped(self, worker: "SupervisedWorker", step: WorkerStep) -> None:
        """The worker has computed a step."""
        ...

    def sequence_refused(self, worker: "SupervisedWorker", refused: SequenceRefused) -> None:
        """The worker does not accept a sequence."""
        ...

    def worker_exited(self, worker: "SupervisedWorker") -> None:
        """The worker is gone; its sequences need another."""
        ...

    def worker_failed(self, worker: "SupervisedWorker") -> None:
        """The worker could not be started; ``failure`` says why."""
        ...


class SupervisedWorker:
    """One worker of an engine, its batch, and how often it died."""

    def __init__(
        self, worker: Worker, batch: WorkerBatch, *, policy: QueuePolicy, listener: WorkerListener, report: Report
    ) -> None:
        """Describe a worker; ``run`` starts it.

        Args:
            worker: to be kept running.
            batch: its sequences.
            policy: how often, and how fast, it is started again.
            listener: receives its events.
            report: called with the progress of its loads.
        """
        self.worker = worker
        self.batch = batch
        self.failure: CorralError | None = None
        """Why it cannot be started; None while it may be."""
        self.kv_usage_percent = 0.0
        """Share of its KV cache in use, as it reported last."""
        self._policy = policy
        self._listener = listener
        self._report = report
        self._deaths = 0
        self._restarts = 0
        self._was_ready = False  # since ``run`` was entered
        self._runs = False

    def stats(self) -> WorkerStats:
        """Snapshot."""
        return WorkerStats(
            state=self._state(),
            pid=self.worker.health().pid,
            running=self.batch.submitted,
            deaths=self._deaths,
            restarts=self._restarts,
        )

    def _state(self) -> EngineState:
        if not self._runs and self.failure is None:
            return EngineState(EnginePhase.UNLOADED)
        if self.batch.is_ready:
            return EngineState(EnginePhase.READY)
        if self.failure is not None:
            return EngineState(EnginePhase.FAILED, reason=str(self.failure))
        if self._was_ready:
            return EngineState(EnginePhase.RESTARTING)
        health = self.worker.health().state
        is_starting = health.phase in {EnginePhase.WAITING, EnginePhase.LOADING}
        return health if is_starting else EngineState(EnginePhase.LOADING)

    async def run(self) -> None:
        """Keep the worker running until cancelled. Returns early only if its checkpoint is refused."""
        failed_starts = 0
        self._runs, self._was_ready, self.failure = True, False, None
        try:
            while True:
                try:
                    had_been_ready = await self._run_worker_until_exit()
                except CheckpointRefused as error:
                    self._fail(error)
                    return
                failed_starts = 0 if had_been_ready else failed_starts + 1
                if failed_starts >= self._policy.max_failed_starts:
                    self._fail(EngineUnavailable("The engine could not be started; see the server's log."))
                await asyncio.sleep(min(2.0**failed_starts - 1, self._policy.max_restart_delay_s))
                self._restarts += 1
        finally:
            self._runs = False

    async def _run_worker_until_exit(self) -> bool:
        """Start the worker and pass on its results until it dies. Returns whether it had been ready."""
        try:
            info = await self.worker.start(self._report, is_restart=self._was_ready)
            self._listener.worker_ready(self, info)
            self._was_ready, self.failure = True, None
            async with aclosing(self.worker.outputs()) as outputs:
                async for output in outputs:
                    match output:
                        case WorkerStep():
                            self.kv_usage_percent = output.kv_usage_percent
                            self._listener.worker_stepped(self, output)
                        case SequenceRefused():
                            self._listener.sequence_refused(self, output)
            return self._handle_worker_exit(self.worker.health().state.reason)
        except WorkerDiedError as error:
            return self._handle_worker_exit(str(error))
        finally:
            self.kv_usage_percent = 0.0
            await self.worker.close()

    def _handle_worker_exit(self, reason: str) -> bool:
        """Let other workers take over, before this one is closed. Returns whether it had been ready."""
        was_ready, pid = self.batch.is_ready, self.worker.health().pid
        _log.error("engine_worker_died", reason=reason, was_ready=was_ready, worker=self.batch.index, pid=pid)
        self._deaths += 1
        self._listener.worker_exited(self)
        return was_ready

    def _fail(self, error: CorralError) -> None:
        self.failure = error
        self._listener.worker_failed(self)
