"""The gateway's side of an engine: keeps one worker process alive and passes requests and tokens.

If the worker dies, hangs in a step or is killed, a new one is started and what was running is submitted again from the
tokens so far; readers see a pause. Knows nothing of what the worker computes with.
"""

import asyncio
import socket
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from itertools import takewhile
from math import ceil
from typing import Final

import msgspec
import structlog

from corral.core.errors import (
    CheckpointRefused,
    CorralError,
    EngineFailed,
    EngineUnavailable,
    InvalidRequest,
    Overloaded,
)
from corral.engines.base import EngineInfo, EngineRequest, EngineRun, check_request
from corral.engines.frames import (
    LENGTH_BYTES,
    MAX_FRAME_BYTES,
    Add,
    Cancel,
    Died,
    FromWorker,
    Launch,
    Loading,
    Ready,
    Refused,
    Stepped,
    decode_from_worker,
    encode,
)
from corral.engines.launch import WorkerLaunch
from corral.engines.queue import RunQueue, kv_blocks
from corral.engines.recovery import CrashRecovery
from corral.engines.runs import Run
from corral.engines.stats import EnginePhase, EngineState, EngineStats, WorkerStats
from corral.engines.stepper import Progress, SequenceOutput
from corral.engines.vetting import ConstraintVetting
from corral.engines.wait import Pace

_log = structlog.get_logger(__name__)

RETRY_AFTER_S: Final = 2
"""When nothing better is known."""
MOST_RETRY_AFTER_S: Final = 600
POSITIONS_EVERY_S: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorPolicy:
    """When to give up on a worker, and on a run."""

    step_timeout_s: float = 60.0
    """A step that takes longer is a hang. One step of a 7B on two cores prefills 512 tokens in 12 s."""
    load_timeout_s: float = 900.0
    """Silence this long while loading is a hang; the first inference of a large model repacks all its weights."""
    max_deaths: int = 3
    """A run is given up after this many workers died on it without progress; after twice as many with progress."""
    max_recovery_s: float = 30.0
    """Runs that crashed workers are computed alone for so long together; then others are computed beside them."""
    max_failed_starts: int = 3
    """After this many failed starts in a row, callers are told; starts go on, ever more slowly."""
    max_restart_delay_s: float = 30.0
    max_sequences: int = 256
    max_waiting: int = 1024
    """A flow may have as many waiting as it leaves places for others: alone half of these."""
    max_queue_wait_s: float = 60.0
    """A request that would wait longer for its turn is refused."""
    takes_unvetted: bool = False
    """Let constraints through to the worker untried: for the engine on which they are tried."""


STAND_IN_POLICY: Final = SupervisorPolicy(
    step_timeout_s=5.0, load_timeout_s=120.0, max_deaths=1, max_sequences=1, max_waiting=64, takes_unvetted=True
)
"""For an engine on which constraints are tried: see ``vetting``."""


class _WorkerDiedError(Exception):
    """The worker is gone, or must go; the message is for the log."""


class SupervisedEngine:
    """An Engine in a child process; see ``engines.base.Engine``."""

    def __init__(
        self,
        launch: WorkerLaunch,
        *,
        policy: SupervisorPolicy | None = None,
        vetting: ConstraintVetting | None = None,
        on_progress: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        """Describe an engine; ``run`` starts it.

        Args:
            launch: what to start.
            policy: when to give up.
            vetting: what the constraints of requests must pass; without it, they are refused.
            on_progress: told how far a start is.
        """
        self._launch = launch
        self._policy = policy or SupervisorPolicy()
        self._vetting = vetting
        self._on_progress = on_progress
        self._queue = RunQueue()
        self._recovery = CrashRecovery(self._queue, limit_s=self._policy.max_recovery_s, on_released=self._admit)
        self._info: EngineInfo | None = None
        self._failure: CorralError | None = None
        self._settled = asyncio.Event()  # the first load is done, one way or the other
        self._writer: asyncio.StreamWriter | None = None  # set while a worker is ready
        self._pid: int | None = None
        self._deadline: asyncio.Timeout | None = None
        self._kv_usage_percent = 0.0
        self._pace = Pace()
        self._step_began_s = 0.0
        self._telling: asyncio.TimerHandle | None = None
        self._emitted_tokens = 0
        self._discarded_tokens = 0
        self._replayed_tokens = 0
        self._restarts = 0

    @property
    def info(self) -> EngineInfo:
        """What is loaded; raises EngineUnavailable before the first load is complete."""
        if self._info is None:
            raise self._failure or EngineUnavailable("The model is still loading.")
        return self._info

    async def ready(self) -> None:
        """Return when the next request would be answered; see ``Engine.ready``."""
        await self._settled.wait()
        if self._failure is not None:
            raise self._failure

    def stats(self) -> EngineStats:
        """A snapshot."""
        state, running, restarts = self._state(), self._queue.submitted, self._restarts
        worker = WorkerStats(state=state, pid=self._pid, running=running, deaths=restarts, restarts=restarts)
        return EngineStats(
            state=worker.state,
            running=self._queue.submitted,
            waiting=self._queue.waiting,
            kv_blocks_reserved=self._queue.kv_blocks_reserved,
            kv_usage_percent=self._kv_usage_percent,
            emitted_tokens=self._emitted_tokens,
            delivered_tokens=self._emitted_tokens - self._discarded_tokens - self._replayed_tokens,
            discarded_tokens=self._discarded_tokens,
            replayed_tokens=self._replayed_tokens,
            restarts=self._restarts,
            recovering=self._recovery.active,
            workers=(worker,),
        )

    def _state(self) -> EngineState:
        if self._failure is not None:
            return EngineState(EnginePhase.FAILED, reason=str(self._failure))
        if self._writer is not None:
            return EngineState(EnginePhase.READY)
        return EngineState(EnginePhase.LOADING if self._info is None else EnginePhase.RESTARTING)

    @asynccontextmanager
    async def run(self) -> AsyncGenerator[None]:
        """Keep a worker alive for as long as the block lasts."""
        supervising = asyncio.create_task(self._supervise())  # noqa: TID251 - owned and awaited by this block
        try:
            async with self._vetting.run() if self._vetting else nullcontext():
                yield
        finally:
            supervising.cancel()
            with suppress(asyncio.CancelledError):
                await supervising

    @asynccontextmanager
    async def open(self, request: EngineRequest) -> AsyncGenerator[EngineRun]:
        """Run one request; see ``Engine.open``."""
        info = self.info
        if self._failure is not None:
            raise self._failure
        self._recovery.check_open()
        check_request(request, info)
        if request.constraint is not None and not self._policy.takes_unvetted:
            if self._vetting is None:
                raise InvalidRequest("Answers of this model cannot be constrained.", param="response_format")
            request = replace(request, constraint=await self._vetting.vet(request))
        if self._queue.waiting_of(request.flow) >= self._policy.max_waiting - self._queue.waiting:
            raise Overloaded("Too many requests are waiting; try again soon.", retry_after_s=RETRY_AFTER_S)
        run = Run(request, kv_blocks=kv_blocks(request, info))
        self._queue.append(run)
        self._admit()
        try:
            self._check_wait(run, info)
            yield run
        finally:  # no await in here: it must work while being cancelled
            self._discarded_tokens += run.unread_tokens
            if run.emitted:
                self._pace.ended(run)
            key = self._queue.leave(run)
            if key is not None:
                self._send(Cancel(key))
            self._admit()

    def _admit(self) -> None:
        self._recovery.update()
        if self._writer is not None and self._info is not None:
            was_idle = self._queue.submitted == 0
            limits = {"kv_blocks_total": self._info.kv_blocks or 0, "max_sequences": self._policy.max_sequences}
            for key, run in self._queue.admit(**limits):
                run.place(0)
                self._send(Add(key, run.submission()))
            if was_idle:
                self._step_began_s = asyncio.get_running_loop().time()
                self._expect_word()
        if self._queue.waiting and self._telling is None:
            self._telling = asyncio.get_running_loop().call_later(POSITIONS_EVERY_S, self._tell_positions)

    def _tell_positions(self) -> None:
        # Not at every change: each is O(waiting), and so is what all who wait then tell their callers.
        self._telling = None
        for position, run in enumerate(self._queue.in_order(), start=1):
            if not run.deaths:
                run.place(position, recovering=self._recovery.active)

    def _check_wait(self, run: Run, info: EngineInfo) -> None:
        if run.key is not None:
            return
        ahead = list(takewhile(lambda one: one is not run, self._queue.in_order()))
        run.place(len(ahead) + 1)
        wait_s = self._pace.wait_s(
            running=self._queue.running(),
            ahead=ahead,
            kv_blocks=sum(one.kv_blocks for one in ahead)
            + run.kv_blocks
            + self._queue.kv_blocks_reserved
            - (info.kv_blocks or 0),
            sequences=len(ahead) + 1 + self._queue.submitted - self._policy.max_sequences,
        )
        if wait_s is not None and wait_s > self._policy.max_queue_wait_s:
            retry_after_s = min(ceil(wait_s - self._policy.max_queue_wait_s), MOST_RETRY_AFTER_S)
            raise Overloaded(f"This request would wait about {wait_s:.0f} s for its turn.", retry_after_s=retry_after_s)

    def _send(self, frame: Launch | Add | Cancel) -> None:
        # Not drained: admission bounds what can pile up, and a worker that does not read is the watchdog's business.
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(encode(frame))

    async def _supervise(self) -> None:
        failed_starts = 0
        try:
            while True:
                try:
                    await self._live_one_life()
                except CheckpointRefused as error:
                    self._give_up(error)
                    return
                except (_WorkerDiedError, OSError, EOFError) as error:
                    was_ready, self._writer = self._writer is not None, None
                    failed_starts = 0 if was_ready else failed_starts + 1
                    _log.error("engine_worker_died", reason=str(error), was_ready=was_ready, pid=self._pid)
                self._bury_worker()
                if failed_starts >= self._policy.max_failed_starts:
                    self._give_up(EngineUnavailable("The engine could not be started; see the server's log."))
                await asyncio.sleep(min(2.0**failed_starts - 1, self._policy.max_restart_delay_s))
                self._restarts += 1
        finally:
            self._writer = self._pid = None
            self._give_up(self._failure or EngineUnavailable("The engine is shut down."))

    def _bury_worker(self) -> None:
        self._pid = None
        self._kv_usage_percent = 0.0
        self._recovery.worker_died()
        for run in self._queue.worker_died():
            if run.suspicion >= self._policy.max_deaths or run.deaths >= 2 * self._policy.max_deaths:
                self._queue.leave(run)
                run.fail(EngineFailed("The engine died on this request several times; it was given up."))
        self._admit()

    def _give_up(self, error: CorralError) -> None:
        self._failure = error
        for run in self._queue.drain():
            run.fail(error)
        self._settled.set()

    async def _live_one_life(self) -> None:
        """Start a worker and listen to it until it dies. Only ends by raising."""
        ours, theirs = socket.socketpair()
        with theirs:
            reader, writer = await asyncio.open_unix_connection(sock=ours)
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "corral.engines.worker", str(theirs.fileno())),
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,  # signals to the gateway's group, Ctrl-C included, are for the gateway
                pass_fds=[theirs.fileno()],
                env=dict(self._launch.environment),
            )
        try:
            self._pid = process.pid
            writer.write(encode(Launch(self._launch.engine, dict(self._launch.options))))
            await self._listen(reader, writer)
        finally:
            writer.close()
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(self._policy.load_timeout_s) as self._deadline:
                while True:
                    length = int.from_bytes(await reader.readexactly(LENGTH_BYTES), "big")
                    if length > MAX_FRAME_BYTES:
                        raise _WorkerDiedError(f"a frame of {length} bytes is no frame")
                    self._handle(decode_from_worker(await reader.readexactly(length)), writer)
                    self._expect_word()
        except TimeoutError:
            raise _WorkerDiedError("the worker hangs") from None
        except msgspec.DecodeError as error:
            raise _WorkerDiedError(f"a frame cannot be read: {error}") from error
        finally:
            self._deadline = None

    def _expect_word(self) -> None:
        """Set the watchdog: how long the worker may stay silent from now on."""
        if self._deadline is None:
            return
        now_s = asyncio.get_running_loop().time()
        if self._writer is None:
            self._deadline.reschedule(now_s + self._policy.load_timeout_s)
        elif self._queue.submitted:
            self._deadline.reschedule(now_s + self._policy.step_timeout_s)
        else:
            self._deadline.reschedule(None)

    def _handle(self, frame: FromWorker, writer: asyncio.StreamWriter) -> None:
        match frame:
            case Loading(progress=progress):
                self._on_progress(progress)
            case Ready(info=info):
                if self._info is not None and info.weights_id != self._info.weights_id:
                    # Names, prices and running answers belong to the weights that were loaded first.
                    raise CheckpointRefused("The weights on disk were replaced while they were served; restart Corral.")
                self._info, self._failure, self._writer = info, None, writer
                self._settled.set()
                self._admit()
            case Refused(key=key, message=message):
                run = self._queue.get(key)
                self._queue.left(key)
                if run is not None:
                    run.fail(InvalidRequest(message))
            case Stepped():
                self._kv_usage_percent = frame.kv_usage_percent
                began_s, self._step_began_s = self._step_began_s, asyncio.get_running_loop().time()
                tokens = sum(self._distribute(output) for output in frame.outputs)
                self._pace.worked(tokens, self._step_began_s - began_s)
                for key in frame.cancelled:
                    self._queue.left(key)
                self._admit()
            case Died(message=message, checkpoint_refused=refused):
                raise CheckpointRefused(message) if refused and self._info is None else _WorkerDiedError(message)

    def _clear_suspect(self, run: Run, *, over: bool) -> None:
        self._queue.acquit(run)
        if not over and (key := self._queue.make_way(run)) is not None:
            self._send(Cancel(key))

    def _distribute(self, output: SequenceOutput) -> int:
        """Returns how many tokens the worker computed for it."""
        self._emitted_tokens += len(output.ids)
        run = self._queue.get(output.key)
        if run is None:
            self._discarded_tokens += len(output.ids)
            return len(output.ids)
        read_tokens = 0 if run.emitted else len(run.request.prompt_ids)
        new_tokens = run.receive(output)
        self._replayed_tokens += len(output.ids) - (new_tokens or 0)
        if new_tokens and run.suspect:
            self._clear_suspect(run, over=output.end is not None)
        if new_tokens is None:
            self._send(Cancel(output.key))
            if run.over:
                self._queue.leave(run)
            else:
                self._send(Add(self._queue.resubmit(run), run.submission()))
        elif output.end is not None:
            self._queue.left(output.key)
        return read_tokens + len(output.ids)
