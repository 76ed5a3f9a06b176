"""`corral models`: as a table, tab-separated and as JSON."""

import json

from tests.cli.fake_server import FakeServer
from tests.cli.processes import Run


def test_models_in_a_pipe_are_tab_separated_with_one_header_line(run: Run) -> None:
    done = run("models")
    assert (done.status, done.stdout.decode().splitlines()) == (
        0,
        [
            "model\tcontext\tweights\tstand-in\tstate",
            "meta/llama-2-7b-chat\t512\tdemo\tyes\tready",
            "other/server-says-less\t\t\t\t",
        ],
    )


def test_model_names_in_a_pipe_are_not_truncated(fake: FakeServer, run: Run) -> None:
    name = "owner/" + "long-" * 25 + "[bold]name"
    fake.refusal = (200, {"data": [{"id": name}]})
    assert name in run("models").stdout.decode()


def test_models_as_json(run: Run) -> None:
    assert json.loads(run("models", "--json").stdout) == [
        {"id": "meta/llama-2-7b-chat", "context_tokens": 512, "weights": "demo", "stands_in": True, "state": "ready"},
        {"id": "other/server-says-less", "context_tokens": None, "weights": None, "stands_in": False, "state": None},
    ]


def test_models_without_a_server_says_how_to_start_it(run: Run) -> None:
    done = run("models", "--json", url="http://127.0.0.1:9/v1")
    assert (done.status, done.stdout) == (1, b"")
    assert done.stderr == b"corral: No server answers at http://127.0.0.1:9; start one with `corral serve`.\n"


def test_endless_model_list_is_rejected(fake: FakeServer, run: Run) -> None:
    fake.refusal = (200, {"data": [{"id": "a" * 1_000_000}] * 5})
    assert b"longer than 4194304 bytes" in run("models").stderr
