"""A real browser, and the real servers that it visits."""

import os
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import Browser, Page, async_playwright

from tests.e2e.pages.servers import CRAWL_S, VisitedServer, scripted_server, visited_server
from tests.e2e.pages.surfing import DESKTOP, Watch, sign_in

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_ARGUMENTS = ["--no-sandbox", "--disable-quic", "--disable-background-networking"]
_PATIENCE_MS = 15_000

Open = Callable[..., Any]
"""``await open_page(server, "/path", signed_in=True, **options)``; options are those of a browser's context."""


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """One loop for the session, so that browser and servers live through it."""
    return "asyncio"


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Debian's Chromium."""
    if CHROMIUM is None and os.environ.get("CI") != "true":
        pytest.skip("there is no chromium on this machine")
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        yield launched
        await launched.close()


@pytest.fixture(scope="session")
async def live(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[VisitedServer]:
    """A server with the demo model."""
    async with visited_server(tmp_path_factory.mktemp("live")) as server:
        yield server


@pytest.fixture(scope="session")
async def slow(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[VisitedServer]:
    """A server whose every answer has a thousand known tokens, at a known pace."""
    async with scripted_server(tmp_path_factory.mktemp("slow")) as server:
        yield server


@pytest.fixture(scope="session")
async def crawling(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[VisitedServer]:
    """As ``slow``, at a pace at which nothing ends before it is stopped."""
    async with scripted_server(tmp_path_factory.mktemp("crawling"), step_s=CRAWL_S) as server:
        yield server


@pytest.fixture
async def open_page(browser: Browser) -> AsyncIterator[Open]:
    """Opens pages, each in a browser of its own; at the end none may have done what no page may."""
    async with AsyncExitStack() as stack:
        watches: list[Watch] = []

        async def open_(server: VisitedServer, path: str, *, signed_in: bool = False, **options: Any) -> Page:
            page = await stack.enter_async_context(_page(browser, server, watches, options))
            if signed_in:
                await sign_in(page, server.url)
            await page.goto(server.url + path)
            return page

        yield open_
        assert [fault for watch in watches for fault in watch.faults] == []


@asynccontextmanager
async def _page(
    browser: Browser, server: VisitedServer, watches: list[Watch], options: dict[str, Any]
) -> AsyncGenerator[Page]:
    context = await browser.new_context(**{"viewport": DESKTOP, **options})
    context.set_default_timeout(_PATIENCE_MS)
    watch = Watch(host=server.url)
    watch.over(context)
    watches.append(watch)
    try:
        yield await context.new_page()
    finally:
        await context.close()
