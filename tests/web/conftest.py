"""The real application without its engine: enough for pages that run nothing."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from httpx2 import AsyncClient

from corral.bootstrap import Server, build
from corral.settings import load_settings
from tests.doors.live_server import SECRET, LiveServer, serving


@dataclass(frozen=True, slots=True, kw_only=True)
class PageServer(LiveServer):
    """A running server, and what it is made of."""

    made: Server

    def browser(self) -> AsyncClient:
        """Keeps cookies and follows nothing."""
        return AsyncClient(base_url=self.url, timeout=10, follow_redirects=False)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One loop for the module, so that its server lives through it."""
    return "asyncio"


@pytest.fixture(scope="module")
async def live(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PageServer]:
    """The server as ``corral serve`` puts it together."""
    made = build(load_settings({"data_dir": tmp_path_factory.mktemp("data"), "api_key": SECRET}, {}), lambda _: None)
    try:
        await made.accounts.admit_local(SECRET)
        async with serving(made.app) as server:
            yield PageServer(port=server.port, made=made)
    finally:
        await made.store.close()


@pytest.fixture
async def stranger(live: PageServer) -> AsyncIterator[AsyncClient]:
    """A browser that is not signed in."""
    async with live.browser() as browser:
        yield browser


@pytest.fixture
async def browser(live: PageServer) -> AsyncIterator[AsyncClient]:
    """A browser that is signed in."""
    async with live.browser() as signed_in:
        answer = await signed_in.post("/sign-in", data={"key": SECRET, "next": "/"})
        assert answer.status_code == 303
        yield signed_in
