"""What holds on every page: everybody can read it, on every screen, in both themes, and get about by keyboard."""

import pytest
from playwright.async_api import expect

from tests.e2e.pages.conftest import Open
from tests.e2e.pages.servers import VisitedServer
from tests.e2e.pages.surfing import all_can_read, tab_order

pytestmark = pytest.mark.anyio

PAGES = {"home": "/", "nothing found": "/?q=nothing", "sign-in": "/sign-in", "not there": "/static/nothing"}


@pytest.mark.parametrize("path", PAGES.values(), ids=PAGES)
async def test_everybody_can_read_it(live: VisitedServer, open_page: Open, path: str) -> None:
    await all_can_read(await open_page(live, path))


async def test_the_theme_can_be_chosen_and_is_kept(live: VisitedServer, open_page: Open) -> None:
    page = await open_page(live, "/", color_scheme="light")
    light = await page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    await page.get_by_role("button", name="Change between light and dark").click()
    dark = await page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert dark != light
    await page.goto(f"{live.url}/sign-in")
    assert await page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == dark


async def test_models_are_found_while_one_types(live: VisitedServer, open_page: Open) -> None:
    page = await open_page(live, "/")
    await expect(page.locator(".card")).to_have_count(4)
    await page.fill("#q", "70b")
    await expect(page.locator(".card")).to_have_count(1)
    assert page.url.endswith("?q=70b")
    await page.go_back()
    await expect(page.locator(".card")).to_have_count(4)


async def test_the_first_press_of_tab_leads_past_the_navigation(live: VisitedServer, open_page: Open) -> None:
    page = await open_page(live, "/")
    assert await tab_order(page, 1) == ["Skip to content"]
    await page.keyboard.press("Enter")
    await expect(page.locator("#main")).to_be_focused()
    assert await tab_order(page, 1) == ["q"]


async def test_the_command_that_brings_a_model_is_copied(live: VisitedServer, open_page: Open) -> None:
    page = await open_page(live, "/?q=70b", permissions=["clipboard-read", "clipboard-write"])
    await page.locator(".pull button").click()
    await expect(page.locator(".pull button")).to_have_text("Copied")
    assert await page.evaluate("navigator.clipboard.readText()") == "corral pull meta-llama/Llama-2-70b-chat-hf"
