"""Streams: chunks, slow readers, keep-alive, disconnects, errors."""

import asyncio
import re

import orjson
import pytest
from openai import APIError, APIStatusError

from corral.core.errors import EngineUnavailable, Overloaded
from corral.core.generation import Started
from tests.doors.live_server import SECRET, LiveServer
from tests.doors.scripted_predictions import MODEL, ScriptedPredictions, answer, delta

USER = [{"role": "user", "content": "Hello!"}]


async def _events(server: LiveServer, **extra: object) -> list[bytes]:
    body = {"model": MODEL, "messages": USER, "stream": True, **extra}
    async with server.http() as http:
        response = await http.post("/v1/chat/completions", json=body)
    assert response.status_code == 200, response.text
    assert response.content.endswith(b"\n\n")
    return response.content.split(b"\n\n")[:-1]


async def _raw(server: LiveServer, body: dict[str, object]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    content = orjson.dumps(body)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=2**16)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: bearer {SECRET}\r\n"
    writer.write(head.encode() + b"Content-Length: %d\r\n\r\n" % len(content) + content)
    await writer.drain()
    return reader, writer


@pytest.mark.anyio
async def test_a_stream_has_the_documented_bytes(server: LiveServer, predictions: ScriptedPredictions) -> None:
    predictions.script = answer(" Hé", '"\n\r\u2028')
    events = await _events(server)
    (completion_id,) = set(re.findall(rb'"id":"(chatcmpl-[0-9a-f]{32})"', b"".join(events)))
    head = b'data: {"id":"%b","object":"chat.completion.chunk","created":1700000000,"model":"%b",' % (
        completion_id,
        MODEL.encode(),
    )
    delta = b'"choices":[{"index":0,"delta":{"role":"assistant","content":%b},"finish_reason":null}],"usage":null}'
    last = b'"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],'
    usage = b'"usage":{"prompt_tokens":10,"total_tokens":13,"completion_tokens":3,"estimated_cost":0.0000047}}'
    texts = re.findall(rb'"content":("(?:[^"\\]|\\.)*")', b"".join(events))
    assert texts[0] == b'""'
    assert "".join(orjson.loads(text) for text in texts) == ' Hé"\n\r\u2028'
    assert events == [*(head + delta % text for text in texts), head + last + usage, b"data: [DONE]"]


@pytest.mark.anyio
async def test_the_official_client_reads_a_stream(server: LiveServer) -> None:
    async with server.openai() as client:
        stream = await client.chat.completions.create(model=MODEL, messages=USER, stream=True)
        chunks = [chunk async for chunk in stream]
    assert stream.response.headers["corral-weights"] == "demo"
    assert stream.response.headers["cache-control"] == "no-cache"
    assert stream.response.headers["x-accel-buffering"] == "no"
    assert stream.response.headers["content-type"].startswith("text/event-stream")
    assert all(len(chunk.choices) == 1 for chunk in chunks)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == " Hello!"
    assert [chunk.choices[0].finish_reason for chunk in chunks][-1] == "stop"
    assert [chunk.usage for chunk in chunks][:-1] == [None] * (len(chunks) - 1)
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 13


@pytest.mark.anyio
async def test_include_usage_controls_usage_chunks(server: LiveServer) -> None:
    without = await _events(server, stream_options={"include_usage": False, "continuous_usage_stats": True})
    assert not any(b"usage" in event for event in without)
    continuous = await _events(server, stream_options={"continuous_usage_stats": True})
    usages = [orjson.loads(event[6:])["usage"] for event in continuous[:-1]]
    assert [usage["prompt_tokens"] for usage in usages] == [10] * len(usages)
    assert usages[0]["completion_tokens"] == 0
    assert usages[-1] == {"prompt_tokens": 10, "total_tokens": 13, "completion_tokens": 3, "estimated_cost": 0.0000047}


@pytest.mark.anyio
async def test_eight_streams_at_once_do_not_mix(server: LiveServer, predictions: ScriptedPredictions) -> None:
    gate = asyncio.Event()
    predictions.script = [*answer(" a")[:2], gate, *answer(" a", "b")[2:]]

    async def read() -> str:
        async with server.openai() as client:
            stream = await client.chat.completions.create(model=MODEL, messages=USER, stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async with asyncio.TaskGroup() as tasks:
        readers = [tasks.create_task(read()) for _ in range(8)]
        while predictions.running < 8:
            predictions.entered.clear()
            await predictions.entered.wait()
        gate.set()
    assert [reader.result() for reader in readers] == [" ab"] * 8
    assert predictions.running == 0


@pytest.mark.anyio
@pytest.mark.parametrize("stream", [True, False])
async def test_client_disconnect_frees_the_run(
    server: LiveServer, predictions: ScriptedPredictions, stream: bool
) -> None:
    predictions.script = [Started(prompt_tokens=1, seed=1), delta("x", 1), asyncio.Event()]
    _, writer = await _raw(server, {"model": MODEL, "messages": USER, "stream": stream})
    async with asyncio.timeout(60):
        await predictions.entered.wait()
    assert predictions.running == 1
    writer.close()
    async with asyncio.timeout(60):
        await predictions.left.wait()
    assert predictions.running == 0


@pytest.mark.anyio
async def test_breaking_out_of_the_python_stream_frees_the_run(
    server: LiveServer, predictions: ScriptedPredictions
) -> None:
    predictions.script = [*answer(" Hello", "!")[:2], asyncio.Event()]
    async with server.openai() as client:
        async with await client.chat.completions.create(model=MODEL, messages=USER, stream=True) as stream:
            async for chunk in stream:
                if chunk.choices[0].delta.content:
                    break
        async with asyncio.timeout(60):
            await predictions.left.wait()
    assert predictions.running == 0


@pytest.mark.anyio
async def test_run_has_ended_when_the_last_chunk_is_read(server: LiveServer, predictions: ScriptedPredictions) -> None:
    async with server.openai() as client:
        async for chunk in await client.chat.completions.create(model=MODEL, messages=USER, stream=True):
            if chunk.choices[0].finish_reason:
                assert predictions.running == 0


@pytest.mark.anyio
async def test_slow_reader_blocks_nothing_and_loses_no_text(
    server: LiveServer, predictions: ScriptedPredictions
) -> None:
    count = 6_000
    predictions.script = answer(*(f"{number:04x} " * 400 for number in range(count)))
    reader, writer = await _raw(server, {"model": MODEL, "messages": USER, "stream": True})
    async with asyncio.timeout(60):
        await predictions.left.wait()
    assert predictions.played == count + 4
    received = await _drain(reader)
    writer.close()
    chunks = received.count(b"data: ") - 2
    texts = re.findall(rb'"content":"([^"]*)"', received)
    assert b"".join(texts) == b"".join(b"%04x " % number * 400 for number in range(count))
    assert chunks < count / 2


async def _drain(reader: asyncio.StreamReader) -> bytes:
    """Read a chunked body without the chunk headers."""
    body = bytearray()
    async with asyncio.timeout(60):
        await reader.readuntil(b"\r\n\r\n")
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
    return bytes(body)


@pytest.mark.anyio
async def test_idle_stream_sends_keep_alive_comments(server: LiveServer, predictions: ScriptedPredictions) -> None:
    gate = asyncio.Event()
    predictions.script = [gate, *answer(" Hello")]
    reader, writer = await _raw(server, {"model": MODEL, "messages": USER, "stream": True})
    async with asyncio.timeout(60):
        head = await reader.readuntil(b": ping\n\n")
        assert head.startswith(b"HTTP/1.1 200")
        await reader.readuntil(b": ping\n\n")
        gate.set()
        assert b'"content":" Hello"' in await reader.readuntil(b"[DONE]\n\n")
    writer.close()


@pytest.mark.anyio
async def test_an_error_before_the_first_byte_has_its_own_status(
    server: LiveServer, predictions: ScriptedPredictions
) -> None:
    predictions.enter_error = Overloaded("Too much is waiting.", retry_after_s=7)
    async with server.openai() as client:
        with pytest.raises(APIStatusError) as caught:
            await client.chat.completions.create(model=MODEL, messages=USER, stream=True)
    assert caught.value.status_code == 429
    assert caught.value.response.headers["retry-after"] == "7"
    assert caught.value.response.headers["content-type"] == "application/json"


@pytest.mark.anyio
@pytest.mark.parametrize("error", [EngineUnavailable("The engine is gone."), KeyError("a secret prompt")])
async def test_an_error_after_the_first_byte_ends_the_stream_without_done(
    server: LiveServer, predictions: ScriptedPredictions, error: Exception
) -> None:
    gate = asyncio.Event()
    predictions.script = [*answer(" Hello")[:2], gate, error]
    async with server.openai() as client:
        stream = await client.chat.completions.create(model=MODEL, messages=USER, stream=True)
        texts: list[str] = []
        with pytest.raises(APIError) as caught:
            async for chunk in stream:
                texts.append(chunk.choices[0].delta.content or "")
                gate.set()
    assert "".join(texts) == " Hello"
    assert caught.value.type == "server_error"
    assert "secret" not in str(caught.value)
    assert predictions.running == 0


@pytest.mark.anyio
async def test_stream_without_a_finish_event_is_an_error(server: LiveServer, predictions: ScriptedPredictions) -> None:
    predictions.script = answer(" Hello")[:2]
    async with server.http() as http:
        response = await http.post("/v1/chat/completions", json={"model": MODEL, "messages": USER, "stream": True})
    assert b"[DONE]" not in response.content
    assert b"Internal error" in response.content
