"""An HTTP server with a scripted prediction service."""

from collections.abc import AsyncIterator

import pytest

from corral.api.app import create_app
from tests.doors.known_keys import door_dependencies
from tests.doors.live_server import LiveServer, serving
from tests.doors.scripted_predictions import CREATED, ScriptedPredictions


@pytest.fixture
async def predictions() -> AsyncIterator[ScriptedPredictions]:
    """The scripted service behind ``server``; a test sets its script before a request."""
    made = ScriptedPredictions()
    yield made
    assert made.violations == []


@pytest.fixture
async def server(predictions: ScriptedPredictions) -> AsyncIterator[LiveServer]:
    """HTTP server with ``predictions``, keep-alive after 50 ms and a body limit of 2 MiB."""
    app = create_app(door_dependencies(predictions, clock=lambda: CREATED + 0.5, ping_s=0.05))
    async with serving(app) as live:
        yield live
