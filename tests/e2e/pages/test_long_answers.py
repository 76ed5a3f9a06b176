"""A thousand-token answer with all Markdown elements: rendered, inert, without layout shift."""

import pytest
from playwright.async_api import expect

from tests.e2e.pages.browser_checks import DESKTOP, PHONE, layout_shifts, overflow_px, record_layout_shifts
from tests.e2e.pages.conftest import Open
from tests.e2e.pages.servers import ANSWER_TOKENS, CODE, MODEL, BrowserTestServer

pytestmark = pytest.mark.anyio

MOST_SHIFT = 0.001
"""Limit of the cumulative layout shift; 0.1 counts as good."""
ALLOWED = {
    *("BLOCKQUOTE", "BR", "CODE", "EM", "H2", "H3", "H4", "H5", "LI", "OL", "P", "PRE", "STRONG", "TABLE", "TBODY"),
    *("TD", "TH", "THEAD", "TR", "UL", "A", "DIV"),
}


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
async def test_long_answer_is_complete_inert_and_without_layout_shift(
    slow: BrowserTestServer, open_page: Open, viewport: dict[str, int]
) -> None:
    page = await open_page(slow, f"/{MODEL}", signed_in=True, viewport=viewport)
    await expect(page.locator("[data-playground]")).to_have_attribute("data-ready", "yes")
    title = await page.title()
    await page.fill("#in-prompt", "Say everything.")
    await page.fill("#in-max_tokens", str(ANSWER_TOKENS + 10))
    await record_layout_shifts(page)
    await page.click("#run")
    await expect(page.locator("#told")).to_have_text("Done.", timeout=30_000)
    moved, what = await layout_shifts(page)
    assert moved <= MOST_SHIFT, what
    assert await overflow_px(page) <= 0

    answer = page.locator("#answer")
    assert (await slow.latest_prediction()).completion_tokens >= ANSWER_TOKENS
    assert await answer.locator("pre code").text_content() == CODE
    for text in ("👩‍👩‍👧", "🤠🐎", "שלום עולם", "مرحبا بالعالم", "<script>window.broken = 1;", "inline <code>"):
        await expect(answer).to_contain_text(text)
    for selector in ("strong", "em", "ol li", "ul li", "table td", "blockquote"):
        await expect(answer.locator(selector).first).to_be_visible()
    for words in ("שלום עולם", "مرحبا"):
        paragraph = answer.locator("p", has_text=words)
        assert await paragraph.evaluate("(node) => getComputedStyle(node).direction") == "rtl"

    links = await answer.locator("a").evaluate_all("(all) => all.map((each) => [each.href, each.rel])")
    assert [href for href, _ in links if not href.startswith("https://example.com/")] == []
    assert all("noopener" in rel and "nofollow" in rel for _, rel in links)
    names = set(await answer.locator("*").evaluate_all("(all) => all.map((each) => each.nodeName)"))
    assert names <= ALLOWED
    marks = await answer.locator("*").evaluate_all("(all) => all.flatMap((each) => each.getAttributeNames())")
    assert set(marks) <= {"href", "rel", "dir", "start", "tabindex", "class", "scope"}
    assert await page.evaluate("window.broken") is None
    assert await page.title() == title

    # After a reload the text comes from the server's renderer.
    await page.reload()
    await expect(answer.locator("pre code")).to_have_text(CODE)
    assert set(await answer.locator("*").evaluate_all("(all) => all.map((each) => each.nodeName)")) <= ALLOWED
    assert await page.evaluate("window.broken") is None
