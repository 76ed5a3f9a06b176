"""Chromium, and the servers for browser tests."""

import os
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import Browser, Page, async_playwright

from tests.e2e.pages.browser_checks import DESKTOP, PageMonitor, sign_in
from tests.e2e.pages.servers import VERY_SLOW_STEP_S, BrowserTestServer, demo_server, scripted_server

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_ARGUMENTS = ["--no-sandbox", "--disable-quic", "--disable-background-networking"]
_PATIENCE_MS = 15_000

Open = Callable[..., Any]
"""``await open_page(server, "/path", signed_in=True, **options)``; options are those of ``Browser.new_context``."""


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Use one event loop per session, because browser and servers have session scope."""
    return "asyncio"


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """The installed Chromium."""
    if CHROMIUM is None and os.environ.get("CI") != "true":
        pytest.skip("there is no chromium on this machine")
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        yield launched
        await launched.close()


@pytest.fixture(scope="session")
async def live(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[BrowserTestServer]:
    """A server with the demo model."""
    async with demo_server(tmp_path_factory.mktemp("live")) as server:
        yield server


@pytest.fixture(scope="session")
async def slow(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[BrowserTestServer]:
    """A server with a scripted engine: every answer has the same thousand tokens."""
    async with scripted_server(tmp_path_factory.mktemp("slow")) as server:
        yield server


@pytest.fixture(scope="session")
async def very_slow(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[BrowserTestServer]:
    """As ``slow``, with answers that do not end before a test cancels them."""
    async with scripted_server(tmp_path_factory.mktemp("crawling"), step_s=VERY_SLOW_STEP_S) as server:
        yield server


@pytest.fixture
async def open_page(browser: Browser) -> AsyncIterator[Open]:
    """Open pages, each in an own browser context; asserts at the end that no monitor saw a violation."""
    async with AsyncExitStack() as stack:
        monitors: list[PageMonitor] = []

        async def open_(server: BrowserTestServer, path: str, *, signed_in: bool = False, **options: Any) -> Page:
            page = await stack.enter_async_context(_page(browser, server, monitors, options))
            if signed_in:
                await sign_in(page, server.url)
            await page.goto(server.url + path)
            return page

        yield open_
        assert [fault for monitor in monitors for fault in monitor.violations] == []


@asynccontextmanager
async def _page(
    browser: Browser, server: BrowserTestServer, monitors: list[PageMonitor], options: dict[str, Any]
) -> AsyncGenerator[Page]:
    context = await browser.new_context(**{"viewport": DESKTOP, **options})
    context.set_default_timeout(_PATIENCE_MS)
    monitor = PageMonitor(host=server.url)
    monitor.attach(context)
    monitors.append(monitor)
    try:
        yield await context.new_page()
    finally:
        await context.close()
