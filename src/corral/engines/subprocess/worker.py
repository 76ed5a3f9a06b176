"""A worker in a child process: its start, its watchdog, and the frames to and from it."""

import asyncio
import socket
import sys
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from corral.core.errors import CheckpointRefused
from corral.engines.base import EngineInfo, EngineRequest
from corral.engines.stats import EnginePhase, EngineState
from corral.engines.stepper import Progress, Report
from corral.engines.subprocess.frames import (
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
    ToWorker,
    decode_from_worker,
    encode,
)
from corral.engines.worker import SequenceRefused, WorkerDiedError, WorkerHealth, WorkerOutput, WorkerStep

STEP_TIMEOUT_S: Final = 60.0
"""A longer step is a hang. One step of a 7B on two cores prefills 512 tokens in 12 s."""
LOAD_TIMEOUT_S: Final = 900.0
"""Longer silence while loading is a hang; the first inference of a large model repacks all its weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLaunch:
    """What the child process computes with."""

    engine: str
    """A name that ``subprocess.child`` knows."""
    options: Mapping[str, Any]
    """The engine's own options, msgpack-encodable."""
    environment: Mapping[str, str]
    """The child's whole environment: none of the gateway's variables are inherited by accident."""


class SubprocessWorker:
    """A Worker in a child process; see ``engines.worker.Worker``."""

    def __init__(
        self,
        launch: WorkerLaunch,
        *,
        step_timeout_s: float = STEP_TIMEOUT_S,
        load_timeout_s: float = LOAD_TIMEOUT_S,
        load_gate: Callable[[], AbstractAsyncContextManager[None]] | None = None,
    ) -> None:
        """Describe a worker; ``start`` starts it.

        Args:
            launch: what the child computes with.
            step_timeout_s: a step that takes longer is a hang, and the process is killed.
            load_timeout_s: silence this long while loading is a hang.
            load_gate: entered before the process of a first load starts, left when it is ready or has failed.
        """
        self._launch = launch
        self._step_timeout_s = step_timeout_s
        self._load_timeout_s = load_timeout_s
        self._load_gate = load_gate
        self._state = EngineState(EnginePhase.UNLOADED)
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._keys: set[int] = set()
        self._deadline: asyncio.Timeout | None = None

    def health(self) -> WorkerHealth:
        """State now."""
        return WorkerHealth(self._state, pid=None if self._process is None else self._process.pid)

    async def start(self, report: Report, *, is_restart: bool) -> EngineInfo:
        """Start the process and load the weights; see ``Worker.start``."""
        self._state = EngineState(EnginePhase.WAITING)
        gate = nullcontext() if is_restart or self._load_gate is None else self._load_gate()
        async with gate:
            self._state = EngineState(EnginePhase.LOADING)
            try:
                await self._spawn()
                return await self._load(report, is_restart=is_restart)
            except OSError as error:
                raise self._died(f"the process cannot be started: {error}") from error
            finally:
                if self._state.phase is not EnginePhase.READY:
                    await self.close()  # before others may load

    async def _spawn(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._reader, self._writer = await asyncio.open_unix_connection(sock=ours)
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "corral.engines.subprocess.child", str(theirs.fileno())),
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,  # signals to the gateway's group, Ctrl-C included, are for the gateway
                pass_fds=[theirs.fileno()],
                env=dict(self._launch.environment),
            )
        self._send(Launch(self._launch.engine, dict(self._launch.options)))

    async def _load(self, report: Report, *, is_restart: bool) -> EngineInfo:
        while True:
            match await self._receive(self._load_timeout_s):
                case Loading(progress=progress):
                    self._state = EngineState(EnginePhase.LOADING, percent=_percent(progress))
                    report(progress)
                case Ready(info=info):
                    self._state = EngineState(EnginePhase.READY)
                    return info
                case Died(message=message, checkpoint_refused=True) if not is_restart:
                    raise CheckpointRefused(message)
                case Died(message=message):
                    raise self._died(message)
                case frame:
                    raise self._died(f"{type(frame).__name__} came before Ready")

    async def outputs(self) -> AsyncGenerator[WorkerOutput]:
        """Yield results until the process dies or hangs."""
        while True:
            try:
                frame = await self._receive(self._step_timeout_s if self._keys else None)
            except WorkerDiedError:
                return
            match frame:
                case Stepped():
                    self._keys.difference_update(frame.cancelled)
                    self._keys.difference_update(one.key for one in frame.outputs if one.end is not None)
                    yield WorkerStep(tuple(frame.outputs), tuple(frame.cancelled), frame.kv_usage_percent)
                case Refused(key=key, message=message):
                    self._keys.discard(key)
                    yield SequenceRefused(key, message)
                case Died(message=message):
                    self._died(message)
                    return
                case Loading() | Ready():
                    self._died("the process loads twice")
                    return

    async def _receive(self, timeout_s: float | None) -> FromWorker:
        if self._reader is None:
            raise self._died("the process is not started")
        try:
            async with asyncio.timeout(timeout_s) as self._deadline:
                length = int.from_bytes(await self._reader.readexactly(LENGTH_BYTES), "big")
                if length > MAX_FRAME_BYTES:
                    raise self._died(f"a frame has {length} bytes, at most {MAX_FRAME_BYTES} are allowed")
                return decode_from_worker(await self._reader.readexactly(length))
        except TimeoutError:
            raise self._died("the worker hangs") from None
        except msgspec.DecodeError as error:
            raise self._died(f"a frame cannot be decoded: {error}") from error
        except (OSError, EOFError) as error:
            raise self._died(f"the connection to the process broke: {error}") from error
        finally:
            self._deadline = None

    def submit(self, key: int, request: EngineRequest) -> None:
        """Add a sequence to the batch."""
        was_idle = not self._keys
        self._keys.add(key)
        self._send(Add(key, request))
        if was_idle:
            self._reset_watchdog()

    def cancel(self, key: int) -> None:
        """Remove a sequence; it counts for the watchdog until the process confirms."""
        self._send(Cancel(key))

    def _reset_watchdog(self) -> None:
        """Give an idle process, which may be silent, the time for a step from now on."""
        if self._deadline is not None:
            self._deadline.reschedule(asyncio.get_running_loop().time() + self._step_timeout_s)

    def _send(self, frame: ToWorker) -> None:
        # Not drained: admission bounds what can pile up, and the watchdog ends a process that does not read.
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(encode(frame))

    def _died(self, reason: str) -> WorkerDiedError:
        self._state = EngineState(EnginePhase.FAILED, reason=reason)
        return WorkerDiedError(reason)

    async def close(self) -> None:
        """Kill the process and wait for its end; its memory is free then."""
        if self._state.phase is not EnginePhase.FAILED:
            self._state = EngineState(EnginePhase.UNLOADED)
        self._keys.clear()
        if self._writer is not None:
            self._writer.close()
            self._writer = self._reader = None
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.kill()
            await _wait_through_cancellation(self._process)
            self._process = None


async def _wait_through_cancellation(process: asyncio.subprocess.Process) -> None:
    """Wait for the end of a killed process, also if the caller is cancelled meanwhile: it would stay a zombie."""
    ended = asyncio.create_task(process.wait())  # noqa: TID251 - awaited by this function in every case
    try:
        await asyncio.shield(ended)
    except asyncio.CancelledError:
        await ended
        raise


def _percent(progress: Progress) -> float | None:
    return 100 * progress.done / progress.total if progress.total else None
