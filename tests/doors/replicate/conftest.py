"""Server with the demo model, and Replicate's official clients."""

from collections.abc import AsyncIterator

import pytest
from replicate.client import Client

from tests.doors.live_server import SECRET
from tests.doors.replicate.replicate_client import close_client
from tests.server.conftest import RealServer, anyio_backend, fresh_postgres_url, postgres_server, server

__all__ = ["anyio_backend", "fresh_postgres_url", "postgres_server", "server"]


@pytest.fixture
async def client(server: RealServer) -> AsyncIterator[Client]:
    """The official Python client, version 1."""
    made = Client(api_token=SECRET, base_url=server.url)
    made.poll_interval = 0.02
    yield made
    await close_client(made)
