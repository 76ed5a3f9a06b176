"""Prediction pages and the dashboard in a browser: stored data, live updates, keyboard use."""

import asyncio
import json
from collections.abc import Iterable
from html import unescape

import pytest
from httpx2 import AsyncClient
from openai import APIStatusError, AsyncOpenAI
from playwright.async_api import Locator, Page, expect

from corral.core.prediction import Prediction
from corral.core.pricing import usd, verify
from tests.doors.live_server import SECRET
from tests.e2e.pages.browser_checks import (
    DESKTOP,
    PHONE,
    axe_violations,
    first_number,
    layout_shifts,
    overflow_px,
    record_layout_shifts,
)
from tests.e2e.pages.conftest import Open
from tests.e2e.pages.servers import MODEL, BrowserTestServer

pytestmark = pytest.mark.anyio

NARROW = {"width": 320, "height": 640}
PAGES = (
    "/p",
    "/p/{id}",
    "/p/{id}/receipt",
    "/dashboard",
    "/dashboard?by=key&measure=predictions&days=7",
    "/dashboard/keys",
    "/dashboard/webhooks",
    "/dashboard/accounts",
    "/dashboard/accounts/{account}",
    "/dashboard/deployments",
)


async def ask(server: BrowserTestServer, *, key: str = SECRET, max_tokens: int = 20) -> Prediction:
    """Run a chat completion over the OpenAI API."""
    async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0) as client:
        said = [{"role": "user", "content": "Hello!"}]
        await client.chat.completions.create(model=MODEL, messages=said, max_tokens=max_tokens)
    return await server.wait_for_latest()


async def begin(server: BrowserTestServer, *, max_tokens: int) -> tuple[asyncio.Task[None], Prediction]:
    """Start a streamed completion; returns its reader and the running prediction."""
    before = [each.id for each in await own_predictions(server)]

    async def read() -> None:
        headers = {"authorization": f"Bearer {SECRET}"}
        asked = {"model": MODEL, "prompt": "Go on.", "max_tokens": max_tokens, "stream": True}
        async with (
            AsyncClient(base_url=server.url, headers=headers, timeout=60) as http,
            http.stream("POST", "/v1/completions", json=asked) as answer,
        ):
            async for _ in answer.aiter_bytes():
                pass

    reading = asyncio.create_task(read())
    while not (new := [each for each in await own_predictions(server) if each.id not in before]):
        await asyncio.sleep(0.01)
    return reading, new[0]


async def own_predictions(server: BrowserTestServer) -> list[Prediction]:
    caller = await server.built.account_services.keys.authenticate(SECRET)
    assert caller is not None
    return await server.built.predictions.page(caller)


async def ask_with_webhook(server: BrowserTestServer) -> Prediction:
    """Run an inference with a webhook over the DeepInfra API; nothing listens at its URL."""
    headers = {"authorization": f"Bearer {SECRET}"}
    asked = {"input": "Hello!", "max_new_tokens": 5, "webhook": "http://127.0.0.1:9/hook"}
    async with AsyncClient(base_url=server.url, headers=headers) as http:
        answer = await http.post(f"/v1/inference/{MODEL}", json=asked)
        assert answer.status_code < 300, answer.text
    return await server.wait_for_latest()


async def test_account_pages_are_accessible(live: BrowserTestServer, open_page: Open) -> None:
    prediction = await ask_with_webhook(live)
    page = await open_page(live, "/dashboard", signed_in=True)
    found: list[str] = []
    for path in PAGES:
        await page.goto(live.url + path.format(id=prediction.id, account=prediction.account_id))
        await expect(page.locator("h1")).to_have_count(1)
        for viewport, scheme in ((DESKTOP, "light"), (PHONE, "dark")):
            await page.set_viewport_size(viewport)
            await page.emulate_media(color_scheme=scheme)
            found += [f"{path} {scheme} {viewport['width']}: {fault}" for fault in await axe_violations(page)]
        for viewport in (DESKTOP, PHONE, NARROW):
            await page.set_viewport_size(viewport)
            assert await overflow_px(page) <= 0, (path, viewport)
    assert found == []


async def test_key_is_created_used_and_revoked(live: BrowserTestServer, open_page: Open) -> None:
    page = await open_page(live, "/dashboard/keys", signed_in=True)
    await page.get_by_label("Spend limit in dollars").fill("lots")
    await page.get_by_role("button", name="Create key").click()
    await expect(page.locator("#name-fault")).to_have_text("This is needed.")
    await expect(page.locator("#spend_limit-fault")).to_contain_text("'lots' is not an amount")
    await page.get_by_label("Name", exact=False).first.fill("notebook")
    await page.get_by_label("Spend limit in dollars").fill("2.50")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("status")).to_contain_text("Copy it now")
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await page.get_by_role("button", name="Copy").click()
    await expect(page.get_by_role("button", name="Copied")).to_be_visible()
    secret = await page.evaluate("navigator.clipboard.readText()")
    keys = await live.built.account_services.keys.list()
    await page.reload()
    await expect(page.get_by_role("status")).to_contain_text("cannot be shown again")
    assert secret not in await page.content()
    assert secret not in page.url
    assert await live.built.account_services.keys.list() == keys
    await ask(live, key=secret)
    await page.goto(f"{live.url}/dashboard/keys")
    assert secret not in await page.content()
    await page.get_by_role("link", name="Revoke notebook").click()
    await page.get_by_role("button", name="Revoke it").click()
    row = page.get_by_role("row").filter(has_text="notebook")
    await expect(row).to_contain_text("revoked")
    with pytest.raises(APIStatusError) as refused:
        await ask(live, key=secret)
    assert refused.value.status_code == 401


async def test_running_prediction_updates_until_it_ends_across_a_reload(
    slow: BrowserTestServer, open_page: Open
) -> None:
    reading, prediction = await begin(slow, max_tokens=600)
    page = await open_page(slow, f"/p/{prediction.id}", signed_in=True)
    answer = page.locator("#answer")
    await expect(answer).to_contain_text("A long answer")
    await page.reload()
    await expect(answer).to_contain_text("A long answer")
    await expect(page.locator("#status")).to_contain_text("succeeded")
    await expect(page.get_by_role("heading", name="Receipt")).to_be_visible()
    await reading
    stored = await slow.wait_for_latest()
    await expect(answer.locator("strong")).to_have_text("bold")
    await expect(answer.locator("pre code")).to_contain_text("def double")
    await expect(answer).to_contain_text("<script>window.broken = 1;")
    await expect(page.locator(".metrics")).to_contain_text("600")
    assert await page.evaluate("window.broken") is None
    await page.get_by_text("JSON", exact=True).click()
    shown = json.loads(await page.locator("pre.json").inner_text())
    assert (shown["output"], shown["status"]) == (stored.texts, "succeeded")
    await page.get_by_role("link", name="Verify").click()
    await expect(page.get_by_role("status")).to_contain_text("The receipt holds")
    assert verify(stored.receipt or {}) == []


async def test_running_prediction_figures_increase_also_after_a_reload(
    very_slow: BrowserTestServer, open_page: Open
) -> None:
    reading, prediction = await begin(very_slow, max_tokens=1000)
    page = await open_page(very_slow, f"/p/{prediction.id}", signed_in=True)
    output = _figure(page, "Output tokens")
    for load in ("first", "again"):
        await expect(page.locator("#answer")).to_contain_text("A long answer")
        before = await output.inner_text()
        await expect(output).not_to_have_text(before)
        for name in ("First token after", "Generated in", "Input tokens", "Tokens per second"):
            assert first_number(await _figure(page, name).inner_text()) > 0, (load, name)
        await page.reload()
    await page.get_by_role("button", name="Cancel").click()
    await expect(page.locator("#status")).to_contain_text("canceled")
    await reading
    stored = await very_slow.wait_for_latest()
    await expect(output).to_have_text(f"{stored.completion_tokens:,}")


async def test_run_is_canceled_from_its_page(slow: BrowserTestServer, open_page: Open) -> None:
    reading, prediction = await begin(slow, max_tokens=1000)
    page = await open_page(slow, f"/p/{prediction.id}", signed_in=True)
    await page.get_by_role("button", name="Cancel").click()
    await expect(page.locator("#status")).to_contain_text("canceled")
    await expect(page.get_by_text("Canceled: canceled by request.")).to_be_visible()
    await expect(page.get_by_role("button", name="Cancel")).to_have_count(0)
    await reading
    stored = await slow.wait_for_latest()
    assert 0 < stored.completion_tokens < 1000


async def test_replayed_delivery_appears_in_the_delivery_log(live: BrowserTestServer, open_page: Open) -> None:
    prediction = await ask_with_webhook(live)
    page = await open_page(live, f"/p/{prediction.id}", signed_in=True)
    row = page.locator("#told tbody tr")
    attempts, state = row.locator("[data-label=Attempts]"), row.locator("[data-label=State]")
    await expect(state).to_have_text("refused")
    await expect(row).to_contain_text("forbidden_address")
    await expect(attempts).to_have_text("1")
    await row.get_by_role("button", name="Send again").click()
    await expect(page).to_have_url(f"{live.url}/p/{prediction.id}#deliveries")
    await expect(attempts).to_have_text("2")
    await expect(state).to_have_text("refused")
    (delivery,) = await live.built.webhooks.deliveries(prediction_id=prediction.id)
    assert delivery.attempts == 2


async def test_dashboard_matches_the_receipts(live: BrowserTestServer, open_page: Open) -> None:
    await ask(live)
    page = await open_page(live, "/dashboard?by=model&measure=tokens", signed_in=True)
    receipts = [each.receipt or {} for each in await own_predictions(live)]
    tokens = sum(each["prompt_tokens"] + each["completion_tokens"] for each in receipts)
    foot = page.locator("#usage table.listing tfoot")
    await expect(foot.locator("[data-label=Predictions]")).to_have_text(f"{len(receipts):,}")
    await expect(foot.locator("[data-label=Cost]")).to_have_text(
        f"${usd(sum(each['total_nusd'] for each in receipts))}"
    )
    chart = json.loads(unescape(await page.locator("[data-chart]").get_attribute("data-chart") or ""))
    assert sum(_flat(each["values"] for each in chart["series"])) == tokens
    await expect(page.locator(".plot canvas")).to_have_count(1)
    await page.get_by_label("By", exact=True).select_option("door")
    await page.get_by_role("button", name="Show").click()
    await expect(page.locator("#usage tbody").first).to_contain_text("openai")


async def test_dashboard_figures_refresh_in_place(slow: BrowserTestServer, open_page: Open) -> None:
    page = await open_page(slow, "/dashboard", signed_in=True)
    await expect(_figure(page, "Running")).to_have_text("0")
    await record_layout_shifts(page)
    reading, _ = await begin(slow, max_tokens=1000)
    await expect(_figure(page, "Running")).to_have_text("1")
    await expect(_figure(page, "Tokens per second")).not_to_have_text("0")
    await expect(page.locator("[data-spark] canvas")).to_have_count(1)
    reading.cancel()
    await expect(_figure(page, "Running")).to_have_text("0")
    assert await layout_shifts(page) == (0, [])
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await page.evaluate("Object.defineProperty(document, 'visibilityState', {value: 'hidden'})")
    await page.wait_for_timeout(2500)
    assert asked == []


async def test_account_pages_work_without_javascript(live: BrowserTestServer, open_page: Open) -> None:
    prediction = await ask(live)
    page = await open_page(live, "/p", signed_in=True, java_script_enabled=False)
    await page.get_by_label("Status").select_option("succeeded")
    await page.get_by_role("button", name="Filter").click()
    await page.get_by_role("link", name=prediction.id).click()
    await page.get_by_role("link", name="Verify").click()
    await expect(page.get_by_role("status")).to_contain_text("The receipt holds")
    await page.goto(f"{live.url}/dashboard/webhooks")
    await page.get_by_role("button", name="Show the secret").click()
    await expect(page.locator("#secret")).to_contain_text("whsec_")


async def test_account_is_created_and_credited(live: BrowserTestServer, open_page: Open) -> None:
    page = await open_page(live, "/dashboard/accounts", signed_in=True)
    await page.get_by_label("Name", exact=False).first.fill("carol")
    await page.get_by_label("Credit in dollars").fill("5")
    await page.get_by_role("button", name="Create account").click()
    await expect(page.get_by_role("status")).to_have_text("The account was made.")
    await page.get_by_label("Amount in dollars").fill("-9")
    await page.get_by_role("button", name="Give credit").click()
    await expect(page.locator("#amount-fault")).to_contain_text("$9 cannot be withdrawn")
    await page.get_by_label("Amount in dollars").fill("2.5")
    await page.get_by_role("button", name="Give credit").click()
    await expect(_figure(page, "Credit left")).to_have_text("$7.5")


async def test_reload_after_rotation_does_not_rotate_again(live: BrowserTestServer, open_page: Open) -> None:
    page = await open_page(live, "/dashboard/webhooks", signed_in=True)
    await page.get_by_label("I will give the new secret to every receiver").check()
    await page.get_by_role("button", name="Rotate the secret").click()
    shown = await page.locator("#secret").inner_text()
    await page.reload()
    await expect(page.get_by_text("The secret was rotated.")).to_be_visible()
    await expect(page.locator("#secret")).to_have_count(0)
    await page.get_by_role("button", name="Show the secret").click()
    await expect(page.locator("#secret")).to_have_text(shown)
    await page.goto(f"{live.url}/dashboard/webhooks/rotate")
    await expect(page.get_by_role("heading", name="Webhook secret")).to_be_visible()


def _figure(page: Page, name: str) -> Locator:
    return page.locator(".figures > div").filter(has=page.get_by_text(name, exact=True)).locator("dd")


def _flat(rows: Iterable[list[float]]) -> Iterable[float]:
    return (value for row in rows for value in row)
