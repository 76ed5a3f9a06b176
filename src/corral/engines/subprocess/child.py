"""The child process in which an engine computes: ``python -m corral.engines.subprocess.child FD``.

Its own process because ``step()`` of OpenVINO holds the GIL for its whole duration, and because after an exception in
``step()`` a pipeline is lost: the only repair is a new process, so any such exception ends this one. Blocks on the
socket when there is nothing to do, so an idle worker costs no CPU.
"""

import ctypes
import signal
import socket
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final, NoReturn

from corral.core.errors import CorralError, InvalidRequest
from corral.engines.stepper import Progress, Report, Stepper
from corral.engines.subprocess.frames import Add, Cancel, Died, Launch, Loading, Ready, Refused, Stepped, WorkerChannel

_BUILDERS: Final = {
    "openvino": "corral.engines.openvino.stepper",
    "scripted": "corral.engines.scripted",
}
"""Engine name → module with ``build(options: dict, report) -> Stepper``; imported only in the worker."""

_PR_SET_PDEATHSIG: Final = 1


def main(fd: int) -> int:
    """Load what the first frame asks for, then step until the gateway closes the socket. Returns the exit status."""
    # A service manager sends these to every process of a service; the gateway decides when a worker ends.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    _die_with_parent()
    channel = WorkerChannel(socket.socket(fileno=fd))
    try:
        channel.send(Ready((stepper := _load(channel)).info))
        _serve(channel, stepper)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return 0
    except CorralError as error:  # said on purpose: another start would end the same way
        channel.send(Died(message=str(error), checkpoint_refused=True))
        return 1
    except Exception as error:  # noqa: BLE001 - the edge of the process: say why, then end; the gateway starts another
        channel.send(Died(message=f"{type(error).__name__}: {error}", checkpoint_refused=False))
        return 1


def _load(channel: WorkerChannel) -> Stepper:
    launch, *_ = channel.receive(wait=True)
    if not isinstance(launch, Launch):
        raise TypeError(f"the first frame must be Launch, not {type(launch).__name__}")

    def report(progress: Progress) -> None:
        channel.send(Loading(progress))

    build: Callable[[dict[str, Any], Report], Stepper] = import_module(_BUILDERS[launch.engine]).build
    return build(launch.options, report)


def _serve(channel: WorkerChannel, stepper: Stepper) -> NoReturn:
    settled = True
    while True:
        cancelled = _apply(channel, stepper, wait=settled)
        outputs = stepper.step()
        channel.send(Stepped(outputs=outputs, cancelled=cancelled, kv_usage_percent=stepper.kv_usage_percent()))
        # One more round after the last news: the engine frees its cache, and says so, a step later.
        settled = not (stepper.sequences() or outputs or cancelled)


def _apply(channel: WorkerChannel, stepper: Stepper, *, wait: bool) -> list[int]:
    """Apply the frames that arrived; return the cancelled keys, known or not."""
    cancelled: list[int] = []
    for frame in channel.receive(wait=wait):
        match frame:
            case Add(key=key, request=request):
                try:
                    stepper.add(key, request)
                except InvalidRequest as error:
                    channel.send(Refused(key=key, message=str(error)))
            case Cancel(key=key):
                stepper.cancel(key)
                cancelled.append(key)
            case Launch():
                raise TypeError("a worker is launched once")
    return cancelled


def _die_with_parent() -> None:
    """Ask Linux to kill this process when the gateway dies, even in the middle of a step; elsewhere EOF must do."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
