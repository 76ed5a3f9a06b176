"""Connection limits: header size and count, body time, idle time, connections per address."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_network
from typing import Any

import pytest

from corral.api.app import create_app
from corral.api.server.limits import MAX_HEAD_BYTES, MAX_HEADERS, ConnectionLimits
from tests.doors.known_keys import door_dependencies
from tests.doors.live_server import SECRET, LiveServer, serving
from tests.doors.scripted_predictions import CREATED, MODEL, ScriptedPredictions, answer

pytestmark = pytest.mark.anyio

PATIENCE_S = 60
GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %b\r\n" % SECRET.encode()
CHAT = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}).encode()
SHORT_S = 0.15


class Connection:
    """A raw TCP connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, *parts: bytes) -> None:
        """Write, unless the server has closed."""
        try:
            for part in parts:
                self.writer.write(part)
                await self.writer.drain()
        except ConnectionError:
            pass

    async def head(self) -> bytes:
        """The status line and headers of an answer."""
        return await self.reader.readuntil(b"\r\n\r\n")

    async def answer(self) -> tuple[int, bytes, bytes]:
        """An answer with a length: status, head, body."""
        head = await self.head()
        length = next(int(line[16:]) for line in head.split(b"\r\n") if line.startswith(b"content-length: "))
        return int(head.split()[1]), head, await self.reader.readexactly(length)

    async def closed(self) -> bool:
        """Return when the server has closed; whether it did so without another byte."""
        try:
            return await self.reader.read() == b""
        except ConnectionError:
            return True


@asynccontextmanager
async def connected(live: LiveServer) -> AsyncIterator[Connection]:
    """Open a raw connection with a timeout for the test."""
    async with asyncio.timeout(PATIENCE_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", live.port)
        try:
            yield Connection(reader, writer)
        finally:
            writer.close()


@asynccontextmanager
async def limited(
    predictions: ScriptedPredictions, *, body_limit_s: float = PATIENCE_S, ping_s: float = PATIENCE_S, **limits: Any
) -> AsyncIterator[LiveServer]:
    """Serve with other limits than the defaults."""
    dependencies = door_dependencies(predictions, clock=lambda: CREATED, body_limit_s=body_limit_s, ping_s=ping_s)
    async with serving(create_app(dependencies), limits=ConnectionLimits(**limits)) as live:
        yield live


async def test_endless_header_is_rejected_at_64_kb(server: LiveServer) -> None:
    async with connected(server) as connection:
        await connection.send(GET, b"X-A: ", *[b"a" * 65536] * 16)
        status, head, body = await connection.answer()
    assert status == 431
    assert b"connection: close" in head
    assert json.loads(body)["detail"] == "The request line and headers of the request are larger than 64 kB."
    assert json.loads(body)["error"]["message"] == json.loads(body)["detail"]


@pytest.mark.parametrize("start", [b"GET /", b"", GET], ids=["request line", "blank lines", "header name"])
async def test_endless_request_lines_are_rejected(server: LiveServer, start: bytes) -> None:
    async with connected(server) as connection:
        await connection.send(start, *[(b"a" if start else b"\r\n") * 32768] * 8)
        status, _, _ = await connection.answer()
    assert status in (400, 431)


@pytest.mark.parametrize(("spare", "status"), [(0, 200), (-1, 431)])
async def test_header_size_limit_is_64_kb(server: LiveServer, spare: int, status: int) -> None:
    start = GET + b"X-A: "
    padding = b"a" * (MAX_HEAD_BYTES - len(start) - 4 - spare)
    async with connected(server) as connection:
        await connection.send(start + padding + b"\r\n\r\n")
        assert (await connection.answer())[0] == status


@pytest.mark.parametrize(("count", "status"), [(MAX_HEADERS, 200), (MAX_HEADERS + 1, 431)])
async def test_header_count_limit_is_100(server: LiveServer, count: int, status: int) -> None:
    async with connected(server) as connection:
        await connection.send(GET + b"".join(b"X-%d: a\r\n" % n for n in range(count - 1)) + b"\r\n")
        assert (await connection.answer())[0] == status


async def test_endless_chunk_extensions_and_trailers_are_rejected(server: LiveServer) -> None:
    for start in (b"1;a=", b"0\r\nX-A: "):
        async with connected(server) as connection:
            await connection.send(POST, b"Transfer-Encoding: chunked\r\n\r\n", start, *[b"a" * 65536] * 4)
            assert await connection.closed()


async def test_one_byte_chunks_are_read_and_trailers_are_not_headers(
    server: LiveServer, predictions: ScriptedPredictions
) -> None:
    body = CHAT + b" " * 20_000
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
    async with connected(server) as connection:
        await connection.send(
            POST, b"Transfer-Encoding: chunked\r\n\r\n", chunks, b"0\r\nIdempotency-Key: not a key\r\n\r\n"
        )
        assert (await connection.answer())[0] == 200
    assert predictions.asks[0].idempotency is None


async def test_health_answers_during_a_header_flood(server: LiveServer) -> None:
    async def flood() -> None:
        for _ in range(20):
            async with connected(server) as connection:
                await connection.send(GET, b"X-A: ", *[b"a" * 65536] * 200)

    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as tasks, connected(server) as connection:
        flooding = [tasks.create_task(flood()) for _ in range(3)]
        slowest_s = 0.0
        while not all(task.done() for task in flooding):
            begun_s = loop.time()
            await connection.send(GET + b"\r\n")
            assert (await connection.answer())[0] == 200
            slowest_s = max(slowest_s, loop.time() - begun_s)
    print(f"slowest answer of /health: {slowest_s * 1000:.0f} ms")
    assert slowest_s < 2


async def test_silent_connections_and_slow_heads_are_closed(predictions: ScriptedPredictions) -> None:
    async with limited(predictions, head_s=SHORT_S) as live:
        async with connected(live) as connection:
            assert await connection.closed()
        async with connected(live) as connection:
            await connection.send(GET + b"X-A: a")
            status, _, body = await connection.answer()
            assert (status, json.loads(body)["status"]) == (408, 408)
        async with connected(live) as connection:  # single bytes do not extend the deadline
            writing = asyncio.ensure_future(trickle(connection, b"\r\n"))
            assert await connection.closed()
            writing.cancel()


async def trickle(connection: Connection, byte: bytes) -> None:
    """Send one byte at intervals."""
    while True:
        await connection.send(byte)
        await asyncio.sleep(SHORT_S / 10)


async def test_idle_connection_is_kept_for_the_advertised_time(predictions: ScriptedPredictions) -> None:
    async with limited(predictions, head_s=PATIENCE_S, keep_alive_s=1) as live, connected(live) as connection:
        for _ in range(2):
            await connection.send(GET + b"\r\n")
            status, head, _ = await connection.answer()
            assert status == 200
            assert b"connection: keep-alive\r\nkeep-alive: timeout=1\r\n" in head
        writing = asyncio.ensure_future(trickle(connection, b"\r\n"))
        assert await connection.closed()
        writing.cancel()


async def test_endless_body_is_408_in_the_error_format_of_its_api(predictions: ScriptedPredictions) -> None:
    async with limited(predictions, body_limit_s=SHORT_S) as live:
        for path, field in ((b"/v1/chat/completions", "error"), (b"/v1/predictions", "title"), (b"/v1/inference/meta-llama/Llama-2-7b-chat-hf", "error")):  # fmt: skip  # noqa: E501
            async with connected(live) as connection:
                start = POST.replace(b"/v1/chat/completions", path)
                await connection.send(start, b"Content-Length: 100000\r\n\r\n{")
                writing = asyncio.ensure_future(trickle(connection, b" "))
                status, head, body = await connection.answer()
                writing.cancel()
            assert status == 408
            assert b"connection: close" in head
            assert field in json.loads(body)
            assert b"did not arrive within 0.15 seconds" in body


async def test_body_after_the_response_is_limited_in_size_and_time(
    predictions: ScriptedPredictions,
) -> None:
    no_key = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"
    async with limited(predictions, body_s=SHORT_S) as live, connected(live) as connection:
        await connection.send(no_key)
        assert (await connection.answer())[0] == 401
        writing = asyncio.ensure_future(trickle(connection, b"1\r\na\r\n"))
        assert await connection.closed()
        writing.cancel()
    async with limited(predictions, body_bytes=2**20) as live, connected(live) as connection:
        await connection.send(no_key)
        assert (await connection.answer())[0] == 401
        await connection.send(*[b"10000\r\n" + b"a" * 0x10000 + b"\r\n"] * 64)
        assert await connection.closed()


async def test_connection_limits_do_not_end_streams_or_waits(predictions: ScriptedPredictions) -> None:
    short = {"head_s": SHORT_S, "body_s": SHORT_S, "keep_alive_s": 1, "send_s": SHORT_S, "body_limit_s": SHORT_S}
    async with limited(predictions, ping_s=0.05, **short) as live:
        for extra in ({}, {"stream": True}):
            go_on = asyncio.Event()
            predictions.script = [*answer("a", "b")[:2], go_on, *answer("a", "b")[2:]]
            body = json.dumps({**json.loads(CHAT), **extra}).encode()
            async with connected(live) as connection:
                await connection.send(POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                await asyncio.sleep(0.5)  # longer than every limit; nothing to wait for
                go_on.set()
                assert b'"finish_reason":"stop"' in await connection.reader.read()


async def test_connection_of_a_client_that_never_reads_is_closed(predictions: ScriptedPredictions) -> None:
    predictions.script = [*answer(*["a" * 4096] * 4000)[:-1], asyncio.Event()]  # ends by a disconnect only
    body = json.dumps({**json.loads(CHAT), "stream": True}).encode()
    async with limited(predictions, send_s=SHORT_S) as live, connected(live) as connection:
        await connection.send(POST + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        await asyncio.wait_for(predictions.left.wait(), PATIENCE_S)
        received = b""
        with suppress(ConnectionError):
            while piece := await connection.reader.read(2**20):
                received += piece
        assert b"[DONE]" not in received


async def test_connections_per_address_are_limited_except_for_trusted_proxies(
    predictions: ScriptedPredictions, capsys: pytest.CaptureFixture[str]
) -> None:
    async with limited(predictions, connections_per_address=2) as live:
        async with connected(live) as one, connected(live) as two:
            for _ in range(3):
                async with connected(live) as third:
                    status, head, body = await third.answer()
                    assert status == 503
                    assert b"retry-after: 5" in head
                    assert "Too many connections" in json.loads(body)["detail"]
            for connection in (one, two):
                await connection.send(GET + b"\r\n")
                assert (await connection.answer())[0] == 200
        async with connected(live) as again:
            await again.send(GET + b"Connection: close\r\n\r\n")
            assert (await again.answer())[0] in (200, 503)  # the server may not have noticed the disconnects yet
    assert capsys.readouterr().out.count("connections_refused") == 1
    proxies = (ip_network("127.0.0.0/8"),)
    async with (
        limited(predictions, connections_per_address=2, trusted_proxies=proxies) as live,
        connected(live),
        connected(live),
        connected(live) as third,
    ):
        await third.send(GET + b"\r\n")
        assert (await third.answer())[0] == 200


async def test_idle_connections_are_closed_for_new_requests_at_the_limit(
    predictions: ScriptedPredictions,
) -> None:
    async with (
        limited(predictions, connections=3, connections_per_address=0) as live,
        connected(live) as oldest,
        connected(live),
        connected(live),
    ):
        async with connected(live) as newest:
            await newest.send(GET + b"\r\n")
            assert (await newest.answer())[0] == 200
        assert await oldest.closed()


async def test_connection_is_rejected_when_all_others_are_busy(predictions: ScriptedPredictions) -> None:
    go_on = asyncio.Event()
    predictions.script = [go_on, *answer("a")]
    async with limited(predictions, connections=1, connections_per_address=0) as live, connected(live) as busy:
        await busy.send(POST + b"Content-Length: %d\r\n\r\n" % len(CHAT) + CHAT)
        await asyncio.wait_for(predictions.entered.wait(), PATIENCE_S)
        async with connected(live) as other:
            assert (await other.answer())[0] == 503
        go_on.set()
        assert (await busy.answer())[0] == 200


async def test_sequential_and_pipelined_requests_are_answered_in_order(server: LiveServer) -> None:
    models = GET.replace(b"/health", b"/nothing")
    async with connected(server) as connection:
        await connection.send((GET + b"\r\n" + models + b"\r\n") * 3)
        assert [(await connection.answer())[0] for _ in range(6)] == [200, 404] * 3


async def test_upgrade_request_is_answered_as_http_1(server: LiveServer) -> None:
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"
    async with connected(server) as connection:
        for _ in range(2):
            await connection.send(POST + upgrade + b"Content-Length: %d\r\n\r\n" % len(CHAT) + CHAT[:5], CHAT[5:])
            assert (await connection.answer())[0] == 200
        chunked = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(CHAT) + CHAT + b"\r\n0\r\n\r\n"
        await connection.send(POST + upgrade + chunked)
        assert (await connection.answer())[0] == 200
        await connection.send(GET + upgrade + b"\r\n" + GET + b"\r\n")
        assert [(await connection.answer())[0] for _ in range(2)] == [200, 200]


async def test_http_1_0_stream_is_not_chunked_and_ends_with_the_connection(
    server: LiveServer,
) -> None:
    body = json.dumps({**json.loads(CHAT), "stream": True}).encode()
    async with connected(server) as connection:
        head = POST.replace(b"HTTP/1.1", b"HTTP/1.0") + b"Connection: keep-alive\r\n"
        await connection.send(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        answered = await connection.head()
        assert b"chunked" not in answered
        assert b"connection: close" in answered
        rest = await connection.reader.read()
        assert rest.startswith(b"data: {")
        assert rest.endswith(b"data: [DONE]\n\n")
