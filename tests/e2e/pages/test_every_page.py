"""All pages: accessibility, viewports, themes and keyboard navigation."""

import pytest
from playwright.async_api import Page, expect

from tests.e2e.pages.browser_checks import NARROW, PHONE, assert_accessible, tab_order
from tests.e2e.pages.conftest import Open
from tests.e2e.pages.servers import MODEL, BrowserTestServer

pytestmark = pytest.mark.anyio

PAGES = {
    "home": "/",
    "nothing found": "/?q=nothing",
    "sign-in": "/sign-in",
    "not there": "/static/nothing",
    "no such address": "/nothing",
    "API reference": "/reference",
}


@pytest.mark.parametrize("path", PAGES.values(), ids=PAGES)
async def test_page_is_accessible(live: BrowserTestServer, open_page: Open, path: str) -> None:
    await assert_accessible(await open_page(live, path))


async def colour(page: Page) -> str:
    return await page.evaluate("getComputedStyle(document.documentElement).backgroundColor")


async def test_theme_choice_is_stored_and_can_be_reset(live: BrowserTestServer, open_page: Open) -> None:
    page = await open_page(live, "/", color_scheme="light")
    button = page.get_by_role("button", name="Theme:")
    light = await colour(page)
    await expect(button).to_have_accessible_name("Theme: the system's. Change to dark")
    await button.click()
    dark = await colour(page)
    assert dark != light
    await page.goto(f"{live.url}/sign-in")
    assert await colour(page) == dark
    await button.click()
    await page.emulate_media(color_scheme="dark")
    assert await colour(page) == light
    await expect(button).to_have_accessible_name("Theme: light. Change to dark")
    await button.click()
    await button.click()
    await expect(button).to_have_accessible_name("Theme: the system's. Change to light")
    assert await colour(page) == dark
    await page.emulate_media(color_scheme="light")
    assert await colour(page) == light
    await page.reload()
    assert await colour(page) == light
    assert await page.evaluate("localStorage.length") == 0


@pytest.mark.parametrize("java_script_enabled", [True, False], ids=["script", "no script"])
async def test_current_tab_is_visible_on_a_phone(
    live: BrowserTestServer, open_page: Open, *, java_script_enabled: bool
) -> None:
    page = await open_page(live, "/", signed_in=True, viewport=PHONE, java_script_enabled=java_script_enabled)
    account = (await live.built.account_services.accounts.list())[0]
    model = [f"/{MODEL}{tab}" for tab in ("", "/api", "/examples", "/readme", "/versions")]
    own_predictions = ["/dashboard", "/p", "/dashboard/keys", "/dashboard/webhooks", "/dashboard/accounts"]
    for path in ("/", *model, *own_predictions, f"/dashboard/accounts/{account.id}", "/reference"):
        for viewport in (PHONE, NARROW):
            await page.set_viewport_size(viewport)
            await page.goto(live.url + path)
            marked = page.locator('[aria-current="page"]')
            for index in range(await marked.count()):
                box = await marked.nth(index).bounding_box()
                assert box is not None
                assert 0 <= box["x"] < box["x"] + box["width"] <= viewport["width"], (path, viewport)
            assert await marked.count() >= (0 if path == "/reference" else 1), path


async def test_model_search_updates_while_typing(live: BrowserTestServer, open_page: Open) -> None:
    page = await open_page(live, "/")
    await expect(page.locator(".card")).to_have_count(5)
    await page.fill("#q", "70b")
    await expect(page.locator(".card")).to_have_count(1)
    assert page.url.endswith("?q=70b")
    await page.go_back()
    await expect(page.locator(".card")).to_have_count(5)


async def test_first_tab_stop_is_the_skip_link(live: BrowserTestServer, open_page: Open) -> None:
    page = await open_page(live, "/")
    assert await tab_order(page, 1) == ["Skip to content"]
    await page.keyboard.press("Enter")
    await expect(page.locator("#main")).to_be_focused()
    assert await tab_order(page, 1) == ["q"]


async def test_pull_command_is_copied(live: BrowserTestServer, open_page: Open) -> None:
    page = await open_page(live, "/?q=70b", permissions=["clipboard-read", "clipboard-write"])
    await page.locator(".pull button").click()
    await expect(page.locator(".pull button")).to_have_text("Copied")
    assert await page.evaluate("navigator.clipboard.readText()") == "corral pull meta-llama/Llama-2-70b-chat-hf"
