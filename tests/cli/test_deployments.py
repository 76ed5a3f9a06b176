"""`corral deployments`: the table, JSON, what reaches the server, and exit statuses."""

import json
from collections.abc import Callable

import pytest

from tests.cli.fake_server import FakeServer, ScriptedAnswer
from tests.cli.processes import Run, Terminal

PATH = "/corral/v1/deployments"
LLAMA = {
    "name": "llama",
    "models": ["meta/llama-2-7b-chat", "meta-llama/Llama-2-7b-chat-hf"],
    "state": "loading",
    "progress_percent": 40.2,
    "fail_reason": None,
    "load": "on-demand",
    "idle_unload_s": 600.0,
    "engine": "openvino",
    "weights": "int8",
    "context_tokens": 4096,
    "running": 2,
    "waiting": 1,
    "memory_bytes": 7 * 2**30,
    "workers": [{"state": "loading", "pid": 7}],
}
READY = {**LLAMA, "state": "ready", "progress_percent": None}
FAILED = {**LLAMA, "name": "local/x", "state": "failed", "progress_percent": None, "fail_reason": "no\x1b[2Jfile"}
HEADING = "deployment\tmodels\tstate\tload\trunning\twaiting\tmemory"
BOTH = "meta/llama-2-7b-chat, meta-llama/Llama-2-7b-chat-hf"


def refusal(status: int, code: str, message: str) -> ScriptedAnswer:
    return ScriptedAnswer(status=status, document={"error": {"message": message, "type": "x", "code": code}})


def test_deployment_list_in_a_pipe_is_tab_separated_without_control_codes(fake: FakeServer, run: Run) -> None:
    fake.answer(f"GET {PATH}", {"deployments": [LLAMA, FAILED]})
    done = run("deployments", "list")
    assert (done.status, done.stdout.decode().splitlines()) == (
        0,
        [
            HEADING,
            f"llama\t{BOTH}\tloading 40 %\ton-demand\t2\t1\t7.0 GiB",
            f"local/x\t{BOTH}\tfailed: no\N{REPLACEMENT CHARACTER}[2Jfile\ton-demand\t2\t1\t7.0 GiB",
        ],
    )


def test_deployments_as_json_equal_the_server_document(fake: FakeServer, run: Run) -> None:
    fake.answer(f"GET {PATH}", {"deployments": [LLAMA]})
    assert json.loads(run("deployments", "list", "--json").stdout) == [LLAMA]


def test_a_terminal_gets_a_table(fake: FakeServer, terminal: Callable[..., Terminal]) -> None:
    fake.answer(f"GET {PATH}", {"deployments": [READY]})
    screen = terminal("deployments", "list")
    screen.wait_for("Deployment")
    screen.wait_for("7.0 GiB")
    assert screen.wait_for_end() == 0


def test_load_starts_loading_and_prints_the_state(fake: FakeServer, run: Run) -> None:
    fake.answer(f"POST {PATH}/llama/load", ScriptedAnswer(status=202, document=LLAMA))
    done = run("deployments", "load", "llama")
    assert (done.status, done.stdout.decode().splitlines()[1].split("\t")[2]) == (0, "loading 40 %")
    assert [(asked.method, asked.path) for asked in fake.requests] == [("POST", f"{PATH}/llama/load")]


def test_load_and_wait_returns_when_it_is_loaded(fake: FakeServer, run: Run) -> None:
    fake.answer(f"POST {PATH}/llama/load", ScriptedAnswer(status=202, document={**LLAMA, "state": "waiting"}))
    fake.answer(f"GET {PATH}/llama", LLAMA, LLAMA, READY)
    done = run("deployments", "load", "llama", "--wait", "--json")
    assert (done.status, json.loads(done.stdout)["state"]) == (0, "ready")


def test_load_and_wait_ends_with_status_1_and_the_reason_where_it_fails(fake: FakeServer, run: Run) -> None:
    fake.answer(f"POST {PATH}/llama/load", ScriptedAnswer(status=202, document=LLAMA))
    fake.answer(f"GET {PATH}/llama", {**READY, "state": "failed", "fail_reason": "config.json is missing"})
    done = run("deployments", "load", "llama", "--wait")
    assert (done.status, done.stderr) == (1, b"corral: llama was not loaded: failed: config.json is missing.\n")


@pytest.mark.parametrize(("options", "query"), [([], {}), (["--drain"], {"drain": "true"})])
def test_unload_drains_only_with_the_option(
    fake: FakeServer, run: Run, options: list[str], query: dict[str, str]
) -> None:
    fake.answer(f"POST {PATH}/llama/unload", {**READY, "state": "unloaded"})
    assert run("deployments", "unload", "llama", *options).status == 0
    assert fake.requests[-1].query == query


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (refusal(404, "deployment_not_found", "Deployment 'llama' not found."), "Deployment 'llama' not found."),
        (refusal(409, "deployment_in_use", "It is used by 3 runs."), "It is used by 3 runs."),
        (refusal(403, "permission_denied", "This API key lacks the scope 'admin'."), "lacks the scope 'admin'"),
    ],
)
def test_server_error_is_printed_with_status_1(fake: FakeServer, run: Run, answer: ScriptedAnswer, said: str) -> None:
    fake.answer(f"POST {PATH}/llama/unload", answer)
    done = run("deployments", "unload", "llama")
    assert (done.status, done.stdout) == (1, b"")
    assert said in done.stderr.decode()


@pytest.mark.parametrize("name", ["local/x", "../..", "a?drain=true", "é#x"])
def test_deployment_name_is_escaped_as_one_path_segment(fake: FakeServer, run: Run, name: str) -> None:
    fake.answer(f"POST {PATH}/{name}/load", ScriptedAnswer(status=202, document=LLAMA))
    assert run("deployments", "load", "--", name).status == 0
    assert fake.requests[-1].query == {}


def test_server_without_deployment_routes_is_reported(fake: FakeServer, run: Run) -> None:
    fake.answer(f"GET {PATH}", ScriptedAnswer(status=404, document={"detail": "There is no such address."}))
    done = run("deployments", "list")
    assert (done.status, done.stderr) == (1, b"corral: There is no such address.\n")


def test_unexpected_document_is_rejected_in_one_sentence(fake: FakeServer, run: Run) -> None:
    fake.answer(f"GET {PATH}", {"deployments": [{"name": 3}]})
    done = run("deployments", "list")
    assert (done.status, b"not send a valid Corral response" in done.stderr) == (1, True)
