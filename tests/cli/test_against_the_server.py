"""Commands against the whole server: demo model, engine, database, every API. One server for the module."""

import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from anyio.to_thread import run_sync

from corral.bootstrap import build
from corral.cli.main import app
from tests.cli.entry import commands
from tests.cli.processes import Result, run_in_pipes
from tests.demo_server import demo_settings
from tests.doors.live_server import SECRET, LiveServer, serving

NAME = "meta-llama/Llama-2-70b-chat-hf"
HEADINGS = (
    "model: ",
    "type: ",
    "version: ",
    "public: ",
    "pricing: ",
    "description: ",
    "paper: ",
    "license: ",
    "cover_image: ",
    "README:",
    "CURL invocation:",
    "deepctl invocation:",
    "Field description:",
    "output example:",
    "output fields description:",
)
"""Of ``deepctl model info``, in its order."""
GREEDY = ("-i", "temperature=0", "-i", "max_new_tokens=8")

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop for the module, because the server is shared."""
    return "asyncio"


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LiveServer]:
    """The server that ``corral serve`` creates, in this process."""
    made = build(
        demo_settings(tmp_path_factory.mktemp("data"), api_key=SECRET),
        lambda _: None,
    )
    async with made.run():
        await made.engine.ready()
        async with serving(made.app) as live:
            yield live


async def run(server: LiveServer, *arguments: str, key: str = SECRET) -> Result:
    return await run_sync(partial(run_in_pipes, commands(server.url, key), arguments, b""))


async def printed(server: LiveServer, *arguments: str) -> str:
    """Stdout of a command that must succeed."""
    done = await run(server, *arguments)
    assert (done.status, done.stderr) == (0, b"")
    return done.stdout.decode()


async def test_model_info_prints_every_heading_in_deepctls_order(server: LiveServer) -> None:
    lines = (await printed(server, "model", "info", "-m", NAME)).splitlines()
    found = [heading for line in lines for heading in HEADINGS if line.startswith(heading)]
    assert tuple(dict.fromkeys(found)) == HEADINGS
    assert lines[0] == f"model: {NAME}"
    assert "parameters:" in lines


async def test_models_are_listed_and_have_versions(server: LiveServer) -> None:
    assert f"text-generation: {NAME}\n" in await printed(server, "model", "list")
    version = json.loads(await printed(server, "model", "versions", "-m", NAME))[0]["version"]
    assert f"version: {version}\n" in await printed(server, "model", "info", "-m", NAME, "-v", version)
    done = await run(server, "model", "info", "-m", "no/one")
    assert (done.status, done.stdout) == (1, b"")
    assert b"not found" in done.stderr.lower()


async def test_call_prints_one_document_and_stream_the_same_text(server: LiveServer) -> None:
    call = ("infer", "-m", NAME, "-i", "input=[INST] Hello! [/INST]", *GREEDY)
    answer = json.loads(await printed(server, *call))
    text = answer["results"][0]["generated_text"]
    assert answer["num_tokens"] <= 8
    assert json.loads(await printed(server, *call, "-o", "results.0.generated_text=-")) == text
    assert await printed(server, *call, "-i", "stream=true") == f"{text.removesuffix(chr(10))}\n"


async def test_a_refused_field_shows_the_whole_body(server: LiveServer) -> None:
    done = await run(server, "infer", "-m", NAME, "-i", "input=x", "-i", "top_p=2")
    sentence, _, body = done.stderr.decode().partition("\n")
    assert (done.status, done.stdout) == (1, b"")
    assert "HTTP status 422: " in sentence
    assert "top_p" in json.dumps(json.loads(body)["detail"][0]["loc"])


async def test_deployments_are_running_models_that_can_be_called(server: LiveServer) -> None:
    deployments = json.loads(await printed(server, "deploy", "list"))
    assert {each["status"] for each in deployments} == {"running"}
    chosen = deployments[0]
    assert json.loads(await printed(server, "deploy", "info", chosen["deploy_id"]))["status"] == "running"
    only = json.loads(await printed(server, "deploy", "list", "-m", chosen["model_name"]))
    assert {each["model_name"] for each in only} == {chosen["model_name"]}
    answer = await printed(server, "infer", "-d", chosen["deploy_id"], "-i", "input=Hello", *GREEDY)
    assert json.loads(answer)["results"]


async def test_login_checks_the_key_before_storing_it(
    server: LiveServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for key, status in (("wrong", 1), (SECRET, 0)):
        done = await run_sync(partial(run_in_pipes, app, ["auth", "set-token", key, "--url", server.url], b""))
        assert done.status == status
    assert (await run_sync(partial(run_in_pipes, app, ["auth", "token"], b""))).stdout == f"{SECRET}\n".encode()


async def test_log_lists_lines_of_the_chosen_time(server: LiveServer) -> None:
    await printed(server, "infer", "-m", NAME, "-i", "input=Hello", *GREEDY)
    deploy_id = json.loads(await printed(server, "deploy", "list", "-m", NAME))[0]["deploy_id"]
    assert await printed(server, "log", deploy_id)
    assert await printed(server, "log", deploy_id, "--to", "2001-01-01") == ""


async def test_predictions_are_listed_shown_and_streamed(server: LiveServer) -> None:
    call = ("infer", "-m", NAME, "-i", "input=[INST] Hello! [/INST]", *GREEDY)
    text = json.loads(await printed(server, *call))["results"][0]["generated_text"]
    text = text.removeprefix(" ")  # which Replicate's API does not show
    newest = json.loads(await printed(server, "predictions", "list", "--limit", "1", "--json"))[0]
    assert newest["status"] == "succeeded"
    assert newest["id"] in await printed(server, "predictions", "list")
    assert (await printed(server, "predictions", "get", newest["id"])).endswith(f"\n{text}\n")
    assert await printed(server, "predictions", "stream", newest["id"]) == f"{text}\n"
    assert await printed(server, "predictions", "cancel", newest["id"]) == f"{newest['id']}: succeeded\n"
    assert (await run(server, "predictions", "get", "nothing")).status == 1
