"""HTTP server on a free loopback port, in the event loop of the test."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from fastapi import FastAPI
from httpx2 import AsyncClient
from openai import AsyncOpenAI

from corral.api.server.limits import ConnectionLimits
from corral.api.server.server import HttpServer

SECRET = "corral-test-key"


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveServer:
    """Address of a running server, with clients for it."""

    port: int

    @property
    def url(self) -> str:
        """Without a final slash."""
        return f"http://127.0.0.1:{self.port}"

    def openai(self, **options: object) -> AsyncOpenAI:
        """The official client, with the right key and no retries of its own."""
        settings = {"api_key": SECRET, "max_retries": 0, "timeout": 60, **options}
        return AsyncOpenAI(base_url=f"{self.url}/v1", **settings)

    def http(self, *, key: str | None = SECRET) -> AsyncClient:
        """A plain HTTP client, with a key or without."""
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        return AsyncClient(base_url=self.url, headers=headers, timeout=60)


class _Server(HttpServer):
    """HTTP server that does not install signal handlers."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do nothing."""
        yield


@asynccontextmanager
async def serving(app: FastAPI, *, limits: ConnectionLimits | None = None) -> AsyncIterator[LiveServer]:
    """Serve *app* while the block is active, as ``corral serve`` does."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    server = _Server(app, limits=limits or ConnectionLimits(), grace_s=1, lifespan=True)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(server.serve(sockets=[listener]))
        while not server.started and not task.done():
            await asyncio.sleep(0.001)
        try:
            yield LiveServer(port=listener.getsockname()[1])
        finally:
            server.stop()
