"""Standard streams whose errors (closed, disk full, no reader) end a command with a message, not a traceback."""

import io
import os
import sys
from typing import TYPE_CHECKING, Final, TextIO, cast

from corral.core.errors import CorralError

if TYPE_CHECKING:
    from typing_extensions import Buffer

_STDIN_FD: Final = 0
_STDOUT_FD: Final = 1
_STDERR_FD: Final = 2


class OutputFailed(CorralError):
    """Standard output is closed, or the disk or device behind it is full."""


class InputFailed(CorralError):
    """Standard input cannot be read."""


class _Output(io.FileIO):
    """Standard output. A pipe without a reader raises ``BrokenPipeError``, which ends a command silently."""

    def write(self, data: "Buffer", /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputFailed(f"Standard output cannot be written: {error.strerror}.") from error


class _Notices(io.FileIO):
    """Standard error. Drops what cannot be written, because a lost notice or log line must not end the command."""

    def write(self, data: "Buffer", /) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def open_streams() -> None:
    """Replace the standard streams with the classes above. Call it once, before anything is printed.

    A closed descriptor is first opened on ``/dev/null``; otherwise the next opened file would get its number. Standard
    output is then opened read-only, so that printing fails as on a full disk.
    """
    _fill(_STDIN_FD, os.O_RDONLY)
    _fill(_STDOUT_FD, os.O_RDONLY)
    _fill(_STDERR_FD, os.O_WRONLY)
    # None if the descriptor was closed when Python started, although its type excludes None.
    if cast("TextIO | None", sys.stdin) is None:
        sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(_STDIN_FD, "r", closefd=False)), encoding="utf-8")
    sys.stdout = _text(_Output(_STDOUT_FD, "w", closefd=False), sys.stdout)
    sys.stderr = _text(_Notices(_STDERR_FD, "w", closefd=False), sys.stderr, line_buffering=True)


def flush_output() -> None:
    """Flush standard output.

    Raises:
        OutputFailed: standard output cannot be written.
    """
    sys.stdout.flush()


def discard_output() -> None:
    """Redirect standard output to ``/dev/null``, so that its flush at exit cannot fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), _STDOUT_FD)


def read_standard_input(max_bytes: int, *, line: bool = False) -> bytes:
    """Read at most *max_bytes* from standard input, or with *line* at most one line.

    Raises:
        InputFailed: standard input cannot be read.
    """
    try:
        return sys.stdin.buffer.readline(max_bytes) if line else sys.stdin.buffer.read(max_bytes)
    except OSError as error:
        raise InputFailed(f"Standard input cannot be read: {error.strerror}.") from error


def _fill(number: int, mode: int) -> None:
    try:
        os.fstat(number)
    except OSError:
        os.open(os.devnull, mode)  # gets the lowest free number, which is *number* because those below are open


def _text(raw: io.FileIO, before: TextIO | None, *, line_buffering: bool = False) -> TextIO:
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding="utf-8" if before is None else before.encoding,
        errors="backslashreplace" if before is None else before.errors,
        line_buffering=line_buffering or raw.isatty(),
    )
