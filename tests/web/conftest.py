"""HTTP server without an engine, for pages that run no model."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from httpx2 import AsyncClient

from corral.bootstrap import Server, build
from tests.demo_server import demo_settings
from tests.doors.live_server import SECRET, LiveServer, serving


@dataclass(frozen=True, slots=True, kw_only=True)
class PageServer(LiveServer):
    """Running HTTP server with access to its ``bootstrap.Server``."""

    server: Server

    def browser(self) -> AsyncClient:
        """HTTP client that keeps cookies and does not follow redirects."""
        return AsyncClient(base_url=self.url, timeout=60, follow_redirects=False)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Use one event loop per module, because the server fixture has module scope."""
    return "asyncio"


@pytest.fixture(scope="module")
async def live(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PageServer]:
    """Server built as ``corral serve`` builds it."""
    built = build(
        demo_settings(tmp_path_factory.mktemp("data"), api_key=SECRET),
        lambda _: None,
    )
    try:
        await built.account_services.keys.ensure_local_key(SECRET)
        async with serving(built.app) as http_server:
            yield PageServer(port=http_server.port, server=built)
    finally:
        await built.store.close()


@pytest.fixture
async def anonymous_client(live: PageServer) -> AsyncIterator[AsyncClient]:
    """HTTP client without a session."""
    async with live.browser() as browser:
        yield browser


@pytest.fixture
async def browser(live: PageServer) -> AsyncIterator[AsyncClient]:
    """HTTP client with a session of the local account's key."""
    async with live.browser() as signed_in:
        answer = await signed_in.post("/sign-in", data={"key": SECRET, "next": "/"})
        assert answer.status_code == 303
        yield signed_in
