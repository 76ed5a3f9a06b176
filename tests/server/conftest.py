"""The real server: demo model, OpenVINO in its own process, a socket on loopback."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from openai import AsyncOpenAI

from corral.bootstrap import build
from corral.engines.base import Engine
from corral.service.accounts.accounts import Accounts
from corral.service.accounts.api_keys import ApiKeys
from corral.service.ports import Predictions
from tests.contract.store.conftest import fresh_postgres_url, postgres_server
from tests.demo_server import demo_settings
from tests.doors.live_server import SECRET, LiveServer, serving

__all__ = ["fresh_postgres_url", "postgres_server"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RealServer(LiveServer):
    """A running server, with access to its objects."""

    engine: Engine
    accounts: Accounts
    keys: ApiKeys
    predictions: Predictions


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One event loop for the module, because the server is shared."""
    return "asyncio"


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RealServer]:
    """The server that ``corral serve`` creates, in this process."""
    settings = demo_settings(tmp_path_factory.mktemp("data"), api_key=SECRET)
    made = build(settings, lambda _: None)
    async with made.run():
        await made.engine.ready()
        async with serving(made.app) as live:
            yield RealServer(
                port=live.port,
                engine=made.engine,
                accounts=made.account_services.accounts,
                keys=made.account_services.keys,
                predictions=made.predictions,
            )


@pytest.fixture
async def client(server: RealServer) -> AsyncIterator[AsyncOpenAI]:
    """The official client, closed after each test."""
    async with server.openai(timeout=60) as made:
        yield made
