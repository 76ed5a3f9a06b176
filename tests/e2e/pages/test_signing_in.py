"""Getting in: with a key, and with the link that the server prints."""

import pytest
from playwright.async_api import expect

from tests.doors.live_server import SECRET
from tests.e2e.pages.conftest import Open
from tests.e2e.pages.servers import VisitedServer

pytestmark = pytest.mark.anyio


async def test_a_key_signs_in_and_leads_back_to_where_one_was(live: VisitedServer, open_page: Open) -> None:
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


async def test_the_printed_link_signs_in_once(live: VisitedServer, open_page: Open) -> None:
    page = await open_page(live, "/")
    link = await live.link()
    await page.goto(link)
    await expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    assert "#" not in page.url
    other = await open_page(live, "/")
    await other.goto(link)
    await expect(other.locator("#key-fault")).to_contain_text("used before")
    await expect(other.get_by_role("button", name="Sign out")).to_have_count(0)
