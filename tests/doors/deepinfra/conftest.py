"""HTTP server with the demo model (OpenVINO worker process); one per module."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from httpx2 import AsyncClient

from corral.bootstrap import Server, build
from corral.settings import load_settings
from tests.doors.live_server import SECRET, LiveServer, serving

PRICES = """
[["meta-llama/Llama-2-7b-chat-hf"]]
since = 2024-01-01
input_usd_per_million = "0.35"
output_usd_per_million = "0.40"

[["meta-llama/Llama-2-70b-chat-hf"]]
since = 2024-01-01
input_usd_per_million = "0.64"
output_usd_per_million = "1.00"
"""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Use one event loop per module, because the server fixture has module scope."""
    return "asyncio"


@pytest.fixture(scope="module")
def prices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Price book in which only the demo model is free."""
    path = tmp_path_factory.mktemp("prices") / "prices.toml"
    path.write_text(PRICES, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
async def built_server(tmp_path_factory: pytest.TempPathFactory, prices: Path) -> AsyncIterator[Server]:
    """Server built as ``corral serve`` builds it, in this process."""
    chosen = {
        "model": "corral/demo",
        "data_dir": tmp_path_factory.mktemp("data"),
        "api_key": SECRET,
        "prices": prices,
        "webhook_allow_networks": "127.0.0.0/8",
    }
    made = build(load_settings(chosen, {}), lambda _: None)
    async with made.run():
        await made.engine.ready()
        yield made


@pytest.fixture(scope="module")
async def live(built_server: Server) -> AsyncIterator[LiveServer]:
    """Address of the running server."""
    async with serving(built_server.app) as live:
        yield live


@pytest.fixture(scope="module")
async def http(live: LiveServer) -> AsyncIterator[AsyncClient]:
    """HTTP client with a valid API key."""
    async with live.http() as client:
        yield client
