"""What holds on every page: everybody can read it, on every screen, in both themes, and get about by keyboard."""

import pytest
from playwright.async_api import Page, expect

from tests.e2e.pages.conftest import Open
from tests.e2e.pages.servers import MODEL, VisitedServer
from tests.e2e.pages.surfing import NARROW, PHONE, all_can_read, tab_order

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
async def test_everybody_can_read_it(live: VisitedServer, open_page: Open, path: str) -> None:
    await all_can_read(await open_page(live, path))


async def colour(page: Page) -> str:
    return await page.evaluate("getComputedStyle(document.documentElement).backgroundColor")


async def test_the_theme_can_be_chosen_is_kept_and_goes_back_to_the_systems(
    live: VisitedServer, open_page: Open
) -> None:
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
async def test_the_tab_of_a_page_is_in_sight_on_a_phone(
    live: VisitedServer, open_page: Open, *, java_script_enabled: bool
) -> None:
    page = await open_page(live, "/", signed_in=True, viewport=PHONE, java_script_enabled=java_script_enabled)
    account = (await live.made.accounts.accounts())[0]
    model = [f"/{MODEL}{tab}" for tab in ("", "/api", "/examples", "/readme", "/versions")]
    mine = ["/dashboard", "/p", "/dashboard/keys", "/dashboard/webhooks", "/dashboard/accounts"]
    for path in ("/", *model, *mine, f"/dashboard/accounts/{account.id}", "/reference"):
        for viewport in (PHONE, NARROW):
            await page.set_viewport_size(viewport)
            await page.goto(live.url + path)
            marked = page.locator('[aria-current="page"]')
            for index in range(await marked.count()):
                box = await marked.nth(index).bounding_box()
                assert box is not None
                assert 0 <= box["x"] < box["x"] + box["width"] <= viewport["width"], (path, viewport)
            assert await marked.count() >= (0 if path == "/reference" else 1), path


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
