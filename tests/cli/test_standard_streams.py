"""Commands with full, closed or unread standard streams: one sentence, never a traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.fake_server import KEY, FakeServer, stream
from tests.cli.processes import PATIENCE_S

CORRAL = f"{Path(sys.executable).parent}/corral"
FULL = b"corral: Standard output cannot be written: No space left on device.\n"
UNREADABLE = b"corral: Standard input cannot be read: Bad file descriptor.\n"
CLOSED = b"corral: Standard output cannot be written: Bad file descriptor.\n"


def shell(line: str, fake: FakeServer, home: Path) -> subprocess.CompletedProcess[bytes]:
    """A line in bash, with ``corral`` on the PATH and logged in at *fake*."""
    environ = {"PATH": f"{Path(CORRAL).parent}:{os.defpath}", "HOME": str(home)}
    environ |= {"CORRAL_API_KEY": KEY, "CORRAL_URL": fake.url}
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}"],
        env=environ,
        input=b"",
        capture_output=True,
        timeout=PATIENCE_S * 3,
        check=False,
    )


@pytest.mark.parametrize("command", ["--help", "chat hi", "models", "key list"])
def test_full_disk_on_stdout_is_reported_in_one_sentence(fake: FakeServer, tmp_path: Path, command: str) -> None:
    done = shell(f"corral {command} > /dev/full", fake, tmp_path)
    assert (done.returncode, done.stderr) == (1, FULL)


@pytest.mark.parametrize("command", ["version", "key list"])
def test_closed_stdout_is_reported_in_one_sentence(fake: FakeServer, tmp_path: Path, command: str) -> None:
    done = shell(f"corral {command} >&-", fake, tmp_path)
    assert (done.returncode, done.stderr) == (1, CLOSED)


@pytest.mark.parametrize("where", ["2> /dev/full", "2>&-"])
def test_unwritable_stderr_does_not_stop_a_command(fake: FakeServer, tmp_path: Path, where: str) -> None:
    shell("corral account create ann", fake, tmp_path)
    made = shell(f"corral key create --account ann {where}", fake, tmp_path)
    assert made.returncode == 0
    assert made.stdout.startswith(b"ck_")


def test_closed_pipe_ends_a_command_silently(fake: FakeServer, tmp_path: Path) -> None:
    fake.replies = [stream(*["word\n"] * 50_000)]
    done = shell("corral chat hi | head -n 1", fake, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (1, b"word\n", b"")


@pytest.mark.parametrize(
    ("line", "status", "said"),
    [
        ("corral chat <&-", 2, b"There is no prompt"),
        ("corral chat hi <&-", 0, b""),
        ("corral infer -m a/b -i input=@- 0> /dev/null", 1, UNREADABLE),
        ("corral verify-receipt - 0> /dev/null", 1, UNREADABLE),
        (
            "printf '\\377\\n' | corral auth login",
            1,
            b"corral: The API key contains a character that keys cannot contain.\n",
        ),
    ],
)
def test_unreadable_stdin_is_reported(fake: FakeServer, tmp_path: Path, line: str, status: int, said: bytes) -> None:
    done = shell(line, fake, tmp_path)
    assert done.returncode == status, done.stderr
    assert said in done.stderr
    assert b"Traceback" not in done.stderr
