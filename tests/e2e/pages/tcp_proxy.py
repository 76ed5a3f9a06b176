"""TCP proxy between browser and server, with which a test interrupts the connection."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

_CHUNK_BYTES = 64 * 1024
_HOST = "127.0.0.1"


class TcpProxy:
    """Forward bytes between an own port, which browsers use, and the server's port."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._listener: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()
        self.port = 0

    @property
    def url(self) -> str:
        """Base URL for browsers, without a trailing slash."""
        return f"http://{_HOST}:{self.port}"

    async def start(self) -> None:
        """Accept connections; keeps the port of the previous start."""
        self._listener = await asyncio.start_server(self._forward, _HOST, self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse new connections and abort the open ones, as a stopped server does."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self.drop_connections()

    def drop_connections(self) -> None:
        """Abort all open connections."""
        for writer in list(self._connections):
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        with suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection(_HOST, self._server_port)
            self._connections.add(far_writer)
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
            self._connections.discard(far_writer)
        self._connections.discard(writer)
        writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(_CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
    with suppress(OSError):
        writer.close()


@asynccontextmanager
async def proxy_to(server_port: int) -> AsyncGenerator[TcpProxy]:
    """Run a proxy while the block is active."""
    proxy = TcpProxy(server_port)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.stop()
