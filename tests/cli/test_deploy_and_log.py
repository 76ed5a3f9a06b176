"""Deployments and their logs in the format of deepctl."""

import json
import time
from collections.abc import Callable, Iterator

import pytest

from tests.cli.fake_server import FakeServer, ScriptedAnswer
from tests.cli.processes import Run, Terminal

RUNNING = {"deploy_id": "DpM4BkrjEspUwmTa", "model_name": "meta/llama", "status": "running", "created_at": "2026-01-01"}
PENDING = {"deploy_id": "b" * 16, "model_name": "meta/other", "status": "downloading"}
STOPPED = {"deploy_id": "c" * 16, "model_name": "meta/llama", "status": "stopped", "fail_reason": ""}
LOGS = "GET /v1/logs/query"


@pytest.fixture(autouse=True)
def in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Local time is UTC."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("options", "listed"),
    [
        ([], [RUNNING, PENDING]),
        (["--state", "any"], [RUNNING, PENDING, STOPPED]),
        (["--state", "inactive"], [STOPPED]),
        (["--state", "pending"], [PENDING]),
        (["--state", "running"], [RUNNING]),
        (["--state", "any", "-m", "meta/llama"], [RUNNING, STOPPED]),
    ],
)
def test_deployments_are_listed_by_state_and_model(
    fake: FakeServer, run: Run, options: list[str], listed: list[object]
) -> None:
    fake.answer("GET /deploy/list/", [RUNNING, PENDING, STOPPED])
    done = run("deploy", "list", *options)
    assert (done.status, json.loads(done.stdout)) == (0, listed)


def test_a_terminal_gets_a_table_of_deployments(fake: FakeServer, terminal: Callable[..., Terminal]) -> None:
    fake.answer("GET /deploy/list/", [RUNNING])
    screen = terminal("deploy", "list")
    screen.wait_for("Status")
    screen.wait_for("DpM4BkrjEspUwmTa")
    assert screen.wait_for_end() == 0


def test_one_deployment_is_json(fake: FakeServer, run: Run) -> None:
    fake.answer("GET /deploy/DpM4BkrjEspUwmTa", RUNNING)
    assert json.loads(run("deploy", "info", "DpM4BkrjEspUwmTa").stdout) == RUNNING
    fake.answer("GET /deploy/none", ScriptedAnswer(status=404, document={"error": "Deployment not found"}))
    done = run("deploy", "info", "none")
    assert (done.status, done.stdout, done.stderr) == (1, b"", b"corral: Deployment not found\n")


def test_log_lines_have_millisecond_timestamps(fake: FakeServer, run: Run) -> None:
    fake.answer(LOGS, {"entries": [["1769860800.25", "started"], ["1769860801", "\x1b[2Jready"]]})
    done = run("log", "abc")
    assert done.stdout.decode() == "2026-01-31 12:00:00.250 started\n2026-01-31 12:00:01.000  [2Jready\n"
    assert fake.requests[-1].query == {"deploy_id": "abc", "limit": "100"}


def test_log_times_and_limit_are_sent_to_the_server(fake: FakeServer, run: Run) -> None:
    fake.answer(LOGS, {"entries": []})
    assert run("log", "abc", "--from", "2026-01-31T12:00", "--to", "1769860801.5", "--limit", "7").status == 0
    query = {"deploy_id": "abc", "limit": "7", "from": "1769860800.0", "to": "1769860801.5"}
    assert fake.requests[-1].query == query


@pytest.mark.parametrize("options", [["--from", "noon"], ["--to", "-1"], ["--to", "inf"], ["--limit", "1001"]])
def test_a_wrong_time_or_limit_ends_with_status_2(run: Run, options: list[str]) -> None:
    assert run("log", "abc", *options).status == 2


def test_log_follow_prints_each_line_once_until_ctrl_c(fake: FakeServer, terminal: Callable[..., Terminal]) -> None:
    first = [["1769860800", "one"], ["1769860801.5", "two"]]
    fake.answer(
        LOGS,
        {"entries": first},
        {"entries": first[1:]},
        {"entries": [*first[1:], ["1769860801.5", "twin"], ["1769860802", "three"]]},
        {"entries": [["1769860802", "three"]]},
    )
    screen = terminal("log", "abc", "-f")
    shown = screen.wait_for("three")
    assert [shown.count(word) for word in ("one", "two", "twin")] == [1, 1, 1]
    assert [asked.query.get("from") for asked in fake.requests[:3]] == [None, "1769860801.5", "1769860801.5"]
    screen.type("\x03")
    assert screen.wait_for_end() == 0
    assert "three" not in screen.shown


def test_a_log_without_times_is_refused(fake: FakeServer, run: Run) -> None:
    fake.answer(LOGS, {"entries": [["now", "x"]]})
    assert b"a log line has no valid time" in run("log", "abc").stderr
