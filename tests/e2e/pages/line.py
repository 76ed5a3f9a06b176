"""A wire between browser and server that a test can cut, pull out and plug in again."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

_CHUNK_BYTES = 64 * 1024
_HOST = "127.0.0.1"


class Line:
    """Passes bytes on between a port of its own and the server's. Browsers only ever see the line's port."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._listener: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self.port = 0

    @property
    def url(self) -> str:
        """What a browser opens; without a final slash."""
        return f"http://{_HOST}:{self.port}"

    async def plug_in(self) -> None:
        """Take connections, on the same port as before."""
        self._listener = await asyncio.start_server(self._carry, _HOST, self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def pull_out(self) -> None:
        """Refuse connections as a stopped server does, and cut those that there are."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self.cut()

    def cut(self) -> None:
        """Lose every connection at once, without a word to either side."""
        for writer in list(self._open):
            writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        with suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection(_HOST, self._server_port)
            self._open.add(far_writer)
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
            self._open.discard(far_writer)
        self._open.discard(writer)
        writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(_CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
    with suppress(OSError):
        writer.close()


@asynccontextmanager
async def line_to(server_port: int) -> AsyncGenerator[Line]:
    """A line that is plugged in while the block runs."""
    line = Line(server_port)
    await line.plug_in()
    try:
        yield line
    finally:
        await line.pull_out()
