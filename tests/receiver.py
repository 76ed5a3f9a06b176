"""A receiver of webhooks on a real socket, which answers as a test tells it to."""

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def answer(status: int, *headers: str, body: bytes = b"") -> bytes:
    """A whole HTTP response."""
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One request."""

    line: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes
    at_s: float
    """When it was complete; monotonic."""

    def json(self) -> Any:
        return json.loads(self.body)


Behaviour = Callable[[Received, asyncio.StreamWriter], Awaitable[None]]


class Receiver:
    """Keeps what it got, and answers with what is next in ``answers``, then with 200."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.answers: list[bytes | Behaviour] = []
        self.connections = 0
        self.sni: list[str | None] = []
        self.url = ""
        self._news = asyncio.Event()
        self._serving: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    async def until(self, count: int, *, within_s: float = 60) -> Sequence[Received]:
        """What was received, once it is so much."""
        async with asyncio.timeout(within_s):
            while len(self.received) < count:
                self._news.clear()
                await self._news.wait()
        return self.received

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, as asyncio.start_server calls it."""
        task = asyncio.create_task(self._answer(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        with suppress(asyncio.CancelledError):
            await asyncio.wait([task])

    async def hang_up(self) -> None:
        """Leave every connection as it is."""
        for task in self._serving:
            task.cancel()
        if self._serving:
            await asyncio.wait(self._serving)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self._converse(reader, writer)
        finally:
            writer.close()
            with suppress(Exception):
                await writer.wait_closed()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            fields = (line.partition(": ") for line in head[1:] if line)
            headers = {name.lower(): value for name, _, value in fields}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            self.received.append(Received(line=head[0], headers=headers, body=body, at_s=time.monotonic()))
            self._news.set()
            said = self.answers.pop(0) if self.answers else OK
            if isinstance(said, bytes):
                writer.write(said)
                await writer.drain()
            else:
                await said(self.received[-1], writer)


@asynccontextmanager
async def receiving(tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    """A receiver on loopback for as long as the block lasts; its URL is that of a loopback address."""
    receiver = Receiver()
    if tls is not None:
        tls.sni_callback = lambda _socket, name, _context: receiver.sni.append(name)
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0, ssl=tls)
    receiver.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield receiver
    finally:
        server.close()
        await receiver.hang_up()


async def hang(_request: Received, _writer: asyncio.StreamWriter) -> None:
    """Accept, and say nothing."""
    await asyncio.sleep(60)


async def hang_up(_request: Received, writer: asyncio.StreamWriter) -> None:
    """Close without a word."""
    writer.transport.abort()


async def babble(_request: Received, writer: asyncio.StreamWriter) -> None:
    """Say yes, and then go on for ever."""
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    piece = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    while True:
        writer.write(piece)
        await writer.drain()
