"""Run commands with pipes or in a pseudo-terminal."""

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest
import typer
from typer.testing import CliRunner

from corral.core.errors import CorralError
from tests.cli.fake_server import KEY

PATIENCE_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Exit status and output of a command."""

    status: int
    stdout: bytes
    stderr: bytes


Run = Callable[..., Result]

_ENTRY = Path(__file__).with_name("entry.py")
_TAKE_TERMINAL = """
import os, sys
os.close(os.open(os.ttyname(0), os.O_RDWR))  # a session's first terminal is the one whose Ctrl-C reaches it
os.execv(sys.argv[1], sys.argv[1:])
"""


def run_in_pipes(app: typer.Typer, arguments: Sequence[str], stdin: bytes) -> Result:
    """Run a command in this process, which is faster than a subprocess."""
    done = CliRunner().invoke(app, arguments, input=stdin)
    said = ""
    if isinstance(done.exception, CorralError):
        said = f"corral: {done.exception}\n"
    elif done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Result(
        status=done.exit_code,
        stdout=done.stdout_bytes,
        stderr=done.stderr_bytes + said.encode(errors="backslashreplace"),
    )


def command(url: str, *arguments: str) -> list[str]:
    """Command line that runs ``corral`` against *url*."""
    return [sys.executable, str(_ENTRY), url, KEY, *arguments]


def run_process(url: str, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run a command in a subprocess with pipes."""
    return subprocess.run(command(url, *arguments), input=stdin, capture_output=True, timeout=PATIENCE_S, check=False)


class Terminal:
    """A command in a pseudo-terminal."""

    def __init__(self, arguments: list[str], *, term: str = "dumb") -> None:
        self._screen, inside = pty.openpty()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _TAKE_TERMINAL, *arguments],
            stdin=inside,
            stdout=inside,
            stderr=inside,
            start_new_session=True,
            env=os.environ | {"TERM": term},
        )
        os.close(inside)
        self.shown = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._screen)

    def type(self, text: str) -> None:
        os.write(self._screen, text.encode())

    def wait_for(self, text: str) -> str:
        """Read the screen until *text*; return the text before it."""
        assert self._appears(text, PATIENCE_S), f"{text!r} did not appear in {self.shown!r}"
        before, _, self.shown = self.shown.partition(text)
        return before

    def interrupt(self, answer: str) -> None:
        """Press Ctrl-C until *answer* appears: one that meets input() while it shows its prompt is only noted."""
        for _ in range(PATIENCE_S):
            self.type("\x03")
            if self._appears(answer, 1):
                break
        self.wait_for(answer)

    def _appears(self, text: str, within_s: float) -> bool:
        deadline = time.monotonic() + within_s
        while text not in self.shown:
            ready, _, _ = select.select([self._screen], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                return False
            try:
                self.shown += os.read(self._screen, 4096).decode(errors="replace")
            except OSError:
                pytest.fail(f"the command ended without {text!r}: {self.shown!r}")
        return True

    def wait_for_end(self) -> int:
        return self._process.wait(PATIENCE_S)
