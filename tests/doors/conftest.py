"""A server with a scripted model behind it."""

from collections.abc import AsyncIterator

import pytest

from corral.api.app import create_app
from corral.api.auth import StaticKeyRing
from tests.doors.live_server import SECRET, LiveServer, serving
from tests.doors.scripted_generation import ScriptedGeneration

CREATED = 1_700_000_000


@pytest.fixture
async def generation() -> ScriptedGeneration:
    """The model behind ``server``; tests change its script before they call."""
    return ScriptedGeneration()


@pytest.fixture
async def server(generation: ScriptedGeneration) -> AsyncIterator[LiveServer]:
    """A server in front of ``generation`` that pings after 50 ms and takes bodies up to 2 MiB."""
    app = create_app(generation, StaticKeyRing({"test": SECRET}), clock=lambda: CREATED + 0.5, ping_s=0.05)
    async with serving(app) as live:
        yield live
