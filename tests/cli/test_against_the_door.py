"""Commands against the OpenAI API over a real socket."""

from collections.abc import AsyncIterator
from functools import partial

import pytest
from anyio.to_thread import run_sync

from corral.api.app import create_app
from corral.cli.server.doctor import Verdict, check_port
from tests.cli.entry import commands
from tests.cli.processes import Result, run_in_pipes
from tests.doors.known_keys import door_dependencies
from tests.doors.live_server import SECRET, LiveServer, serving
from tests.doors.scripted_predictions import ScriptedPredictions


@pytest.fixture
async def door() -> AsyncIterator[LiveServer]:
    """A server with a scripted model behind it."""
    app = create_app(door_dependencies(ScriptedPredictions(), clock=lambda: 0.0, ping_s=0.05))
    async with serving(app) as live:
        yield live


async def run(door: LiveServer, *arguments: str, key: str = SECRET) -> Result:
    return await run_sync(partial(run_in_pipes, commands(door.url, key), arguments, b""))


@pytest.mark.anyio
async def test_openai_api_answers_the_chat_command(door: LiveServer) -> None:
    done = await run(door, "chat", "--temperature", "0", "--max-tokens", "20", "--seed", "1", "Hi")
    assert (done.status, done.stderr) == (0, b"")
    assert done.stdout == b"Hello!\n"


@pytest.mark.anyio
async def test_openai_api_lists_models_with_context_and_weights(door: LiveServer) -> None:
    done = await run(door, "models", "--json")
    assert done.status == 0
    assert b'"context_tokens": null' not in done.stdout
    assert b'"weights": null' not in done.stdout


@pytest.mark.anyio
async def test_wrong_key_and_unknown_model_are_rejected_in_one_sentence(door: LiveServer) -> None:
    assert b"did not accept the API key" in (await run(door, "models", key="wrong")).stderr
    assert b"Model 'no/one' not found." in (await run(door, "chat", "--model", "no/one", "Hi")).stderr


@pytest.mark.anyio
async def test_doctor_recognises_the_server_by_its_health(door: LiveServer) -> None:
    check = await run_sync(check_port, "127.0.0.1", door.port)
    assert check.verdict is Verdict.OK
    assert "Corral answers" in check.finding
