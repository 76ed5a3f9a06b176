"""Sign-in with an API key and with the printed link."""

import pytest
from playwright.async_api import expect

from tests.doors.live_server import SECRET
from tests.e2e.pages.conftest import Open
from tests.e2e.pages.servers import BrowserTestServer

pytestmark = pytest.mark.anyio


async def test_sign_in_with_a_key_returns_to_the_previous_page(live: BrowserTestServer, open_page: Open) -> None:
    page = await open_page(live, "/?q=70b")
    await page.get_by_role("link", name="Sign in").click()
    await page.fill("#key", "wrong")
    await page.keyboard.press("Enter")
    await expect(page.locator("#key-fault")).to_contain_text("no API key of this server")
    await expect(page.locator("#key")).to_be_focused()
    await page.fill("#key", SECRET)
    await page.keyboard.press("Enter")
    await page.wait_for_url("**/?q=70b")
    (cookie,) = await page.context.cookies()
    assert (cookie.get("httpOnly"), cookie.get("sameSite")) == (True, "Strict")
    assert await page.evaluate("document.cookie") == ""
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("link", name="Sign in")).to_be_visible()


async def test_sign_in_link_works_once(live: BrowserTestServer, open_page: Open) -> None:
    page = await open_page(live, "/")
    link = await live.sign_in_link()
    await page.goto(link)
    await expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    assert "#" not in page.url
    other = await open_page(live, "/")
    await other.goto(link)
    await expect(other.locator("#key-fault")).to_contain_text("used before")
    await expect(other.get_by_role("button", name="Sign out")).to_have_count(0)
