"""Model pages in a browser: accessibility, code for the form's inputs, forms without JavaScript."""

import pytest
from playwright.async_api import expect

from tests.doors.live_server import SECRET
from tests.e2e.pages.browser_checks import assert_accessible
from tests.e2e.pages.conftest import Open
from tests.e2e.pages.servers import MODEL, BrowserTestServer

pytestmark = pytest.mark.anyio

PAGES = {
    "playground": f"/{MODEL}",
    "api": f"/{MODEL}/api",
    "examples": f"/{MODEL}/examples",
    "readme": f"/{MODEL}/readme",
    "versions": f"/{MODEL}/versions",
}
QUOTES = """It's "quoted" & $HOME \\n <b> 🤠"""


@pytest.mark.parametrize("path", PAGES.values(), ids=PAGES)
async def test_model_pages_are_accessible(live: BrowserTestServer, open_page: Open, path: str) -> None:
    await assert_accessible(await open_page(live, path, signed_in=path == PAGES["playground"]))


async def test_rejected_form_and_chat_are_accessible(live: BrowserTestServer, open_page: Open) -> None:
    page = await open_page(live, PAGES["playground"], signed_in=True)
    await page.click("label[for=mode-chat]")
    await page.fill("#in-max_tokens", "4")
    await page.fill("#in-prompt", "Hello!")
    await page.click("#run")
    await expect(page.locator("#said li")).to_have_count(2)
    await page.fill("#in-prompt", "And?")
    await page.fill("#in-temperature", "9")
    await page.click("#run")
    await expect(page.locator("#fault-temperature")).to_be_visible()
    await assert_accessible(page)


async def test_copied_code_runs_the_inputs_of_the_form(live: BrowserTestServer, open_page: Open) -> None:
    page = await open_page(live, PAGES["playground"], signed_in=True, permissions=["clipboard-read", "clipboard-write"])
    await expect(page.locator("[data-playground]")).to_have_attribute("data-ready", "yes")
    await page.fill("#in-prompt", QUOTES)
    await page.fill("#in-max_tokens", "5")
    await page.fill("#in-seed", "7")
    await page.get_by_role("link", name="API", exact=True).click()
    await expect(page.locator("#code-replicate-curl")).to_contain_text('"seed": 7')
    await page.locator("label[for=pick-replicate-node]").click()
    await expect(page.locator("#code-replicate-node")).to_be_visible()
    await expect(page.locator("#code-replicate-node")).to_contain_text("seed: 7")
    await page.locator("label[for=pick-replicate-curl]").click()
    await page.locator("[data-copy=code-replicate-curl]").click()
    copied = await page.evaluate("navigator.clipboard.readText()")
    assert SECRET not in await page.content()

    ran = await live.run(["bash", "-c", copied], {"CORRAL_API_KEY": SECRET})
    assert ran.returncode == 0, ran.stderr
    prediction = await live.latest_prediction()
    shown = (prediction.input or {})["shown"]
    assert (shown["prompt"], shown["max_tokens"], shown["seed"]) == (QUOTES, 5, 7)

    await page.get_by_role("link", name="Playground", exact=True).click()
    await expect(page.locator("#in-prompt")).to_have_value(QUOTES)
    await expect(page.locator("#in-seed")).to_have_value("7")


async def test_form_works_without_javascript(live: BrowserTestServer, open_page: Open) -> None:
    page = await open_page(live, PAGES["playground"], signed_in=True, java_script_enabled=False)
    await page.fill("#in-prompt", "Hello!")
    await page.fill("#in-temperature", "9")
    await page.click("#run")
    await expect(page.locator("#fault-temperature")).to_contain_text("Must be less than or equal to 5")
    await expect(page.locator("#in-prompt")).to_have_value("Hello!")
    await page.fill("#in-temperature", "0.5")
    await page.fill("#in-max_tokens", "4")
    await page.click("#run")
    prediction = await live.wait_for_latest()
    assert page.url.endswith(f"/p/{prediction.id}")


async def test_example_opens_in_the_playground(live: BrowserTestServer, open_page: Open) -> None:
    page = await open_page(live, PAGES["examples"])
    prompt = await page.locator(".examples li").nth(1).locator("dd").first.inner_text()
    await page.locator(".examples li").nth(1).get_by_role("link").click()
    await expect(page.locator("#in-prompt")).to_have_value(prompt)
    await expect(page.locator("#answer")).not_to_be_empty()
