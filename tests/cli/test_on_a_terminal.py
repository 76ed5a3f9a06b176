"""Terminal features: waiting notices, colours, completion."""

import os
import subprocess
import sys

import pytest

from corral.cli.client import waiting
from tests.cli.fake_server import KEY, FakeServer
from tests.cli.processes import PATIENCE_S, Run, Terminal, command

GREEN = "\x1b[32m"


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_waiting_notice_on_a_terminal_is_coloured_where_enabled(
    fake: FakeServer, monkeypatch: pytest.MonkeyPatch, no_color: str, coloured: bool
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    fake.delay_s = waiting.SHOW_AFTER_S + 0.5
    with Terminal(command(fake.url, "models", "--json"), term="xterm") as screen:
        assert (GREEN in screen.wait_for("Waiting for the server")) is coloured
        screen.wait_for("meta/llama-2-7b-chat")
        assert screen.wait_for_end() == 0


def test_no_waiting_notice_in_a_pipe(fake: FakeServer, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "SHOW_AFTER_S", 0)
    fake.delay_s = 0.1
    assert run("models", "--json").stderr == b""


def test_a_shell_completes_commands_options_and_names_of_served_models(fake: FakeServer) -> None:
    def completed(*words: str) -> list[str]:
        environ = os.environ | {
            "_CORRAL_COMPLETE": "complete_bash",
            "COMP_WORDS": " ".join(["corral", *words]),
            "COMP_CWORD": str(len(words)),
            "CORRAL_URL": fake.url,
            "CORRAL_API_KEY": KEY,
        }
        run_it = "import sys; sys.argv = ['corral']; from corral.cli.main import run; run()"
        done = subprocess.run(
            [sys.executable, "-c", run_it], env=environ, capture_output=True, check=False, timeout=PATIENCE_S
        )
        return done.stdout.decode().split()

    assert completed("pred") == ["predictions"]
    assert completed("predictions", "s") == ["stream"]
    assert completed("infer", "-m", "meta/") == ["meta/llama-2-7b-chat"]
    fake.refusal = (500, {})
    assert completed("infer", "-m", "meta/") == []


def test_an_unknown_command_ends_with_status_2() -> None:
    done = subprocess.run([sys.executable, "-m", "corral", "stampede"], capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"No such command 'stampede'" in done.stderr
