"""The playground in a browser: run, stream, stop, reload, chat, and connection errors."""

import json
import re
from typing import Any

import pytest
from playwright.async_api import Page, expect

from corral.core.prediction import Status, StoppedBy
from tests.e2e.pages.browser_checks import PHONE, first_number, is_subsequence, tab_order
from tests.e2e.pages.conftest import Open
from tests.e2e.pages.servers import ANSWER_TOKENS, MODEL, BrowserTestServer

pytestmark = pytest.mark.anyio

PATH = f"/{MODEL}"
UNKNOWN = "\N{EN DASH}"
FIGURES = ("Generated in", "Input tokens", "Output tokens", "Tokens per second", "Cost")
SENTENCE = "The herd moves"


async def playground(open_page: Open, server: BrowserTestServer, *, path: str = PATH, signed_in: bool = True) -> Page:
    """Open the playground and wait until its script has loaded."""
    page = await open_page(server, path, signed_in=signed_in)
    await expect(page.locator("[data-playground]")).to_have_attribute("data-ready", "yes")
    return page


async def ask(page: Page, prompt: str, **inputs: object) -> None:
    """Fill in the form and submit it."""
    await page.fill("#in-prompt", prompt)
    for name, value in inputs.items():
        await page.fill(f"#in-{name}", str(value))
    await page.click("#run")


async def figures(page: Page) -> dict[str, str]:
    """Figures below the answer, by name."""
    names = await page.locator("#figures dt").all_text_contents()
    values = await page.locator("#figures dd").all_text_contents()
    return dict(zip(names, values, strict=True))


async def wait_for_answer(page: Page) -> None:
    """Wait until the answer is complete."""
    await expect(page.locator("#told")).to_have_text("Done.")


async def test_form_shows_an_answer_with_its_figures(live: BrowserTestServer, open_page: Open) -> None:
    page = await playground(open_page, live)
    await ask(page, "Write one sentence about horses.", max_tokens=24, temperature=0)
    await wait_for_answer(page)
    prediction = await live.latest_prediction()
    assert (prediction.door, prediction.model, prediction.status) == ("web", MODEL, Status.SUCCEEDED)
    said = "".join(prediction.texts or [])
    assert said.split()
    assert " ".join((await page.inner_text("#answer")).split()) == " ".join(said.split())
    shown = await figures(page)
    assert tuple(shown) == FIGURES
    assert first_number(shown["Generated in"]) > 0
    assert first_number(shown["Input tokens"]) == prediction.prompt_tokens
    assert first_number(shown["Output tokens"]) == prediction.completion_tokens
    assert first_number(shown["Tokens per second"]) > 0
    assert shown["Cost"].startswith("$")
    link = page.locator("#permalink")
    await expect(link).to_be_visible()
    assert await link.get_attribute("href") == f"/p/{prediction.id}"


async def test_prediction_is_shown_as_json(live: BrowserTestServer, open_page: Open) -> None:
    page = await playground(open_page, live)
    await ask(page, "Hello!", max_tokens=8)
    await wait_for_answer(page)
    await page.click("#show-json")
    document = json.loads(await page.inner_text("#json"))
    assert document["status"] == "succeeded"
    assert document["input"]["prompt"] == "Hello!"
    assert document["input"]["max_tokens"] == 8
    await expect(page.locator("#answer")).to_be_hidden()
    await page.click("#show-preview")
    await expect(page.locator("#answer")).to_be_visible()


async def test_text_is_streamed_before_the_run_ends(slow: BrowserTestServer, open_page: Open) -> None:
    page = await playground(open_page, slow)
    await ask(page, "Say much.", max_tokens=ANSWER_TOKENS)
    await expect(page.locator("#answer h3, #answer h2").first).to_contain_text("A long answer")
    assert not (await slow.latest_prediction()).status.terminal
    await expect(page.locator("#stop")).to_be_visible()
    await page.click("#stop")
    await slow.wait_for_latest()


async def test_stop_cancels_the_run_and_keeps_its_text(slow: BrowserTestServer, open_page: Open) -> None:
    page = await playground(open_page, slow)
    await ask(page, "Say much.", max_tokens=ANSWER_TOKENS)
    await expect(page.locator("#answer")).to_contain_text("inline")
    await page.click("#stop")
    await expect(page.locator("#told")).to_have_text("Canceled.")
    prediction = await slow.latest_prediction()
    assert (prediction.status, prediction.stopped_by) == (Status.CANCELED, StoppedBy.CALLER)
    assert 0 < prediction.completion_tokens < ANSWER_TOKENS
    assert "inline" in await page.inner_text("#answer")
    assert first_number((await figures(page))["Output tokens"]) == prediction.completion_tokens
    await expect(page.locator("#run")).to_be_focused()


async def test_run_continues_across_a_page_reload(slow: BrowserTestServer, open_page: Open) -> None:
    page = await playground(open_page, slow)
    await ask(page, "Say much, whatever becomes of this page.", max_tokens=ANSWER_TOKENS, top_p=0.5)
    await expect(page.locator("#answer")).to_contain_text("inline")
    await page.reload()
    assert not (await slow.latest_prediction()).status.terminal
    await expect(page.locator("#stop")).to_be_visible()
    assert await page.input_value("#in-prompt") == "Say much, whatever becomes of this page."
    assert await page.input_value("#in-top_p") == "0.5"
    await wait_for_answer(page)
    prediction = await slow.latest_prediction()
    assert prediction.completion_tokens >= ANSWER_TOKENS
    text = await page.inner_text("#answer")
    assert text.count(SENTENCE) == "".join(prediction.texts or []).count(SENTENCE) > 20
    assert first_number((await figures(page))["Output tokens"]) == prediction.completion_tokens
    await page.reload()
    await expect(page.locator("#answer")).to_contain_text(SENTENCE)
    assert (await page.inner_text("#answer")).count(SENTENCE) == text.count(SENTENCE)


def figure_value(figure: str) -> float:
    """Parse a figure; 0 if it is not known yet."""
    return 0 if figure == UNKNOWN else first_number(figure)


async def test_figures_increase_while_streaming_and_after_a_reload(
    very_slow: BrowserTestServer, open_page: Open
) -> None:
    page = await playground(open_page, very_slow)
    await ask(page, "Say much.", max_tokens=ANSWER_TOKENS)
    output = page.locator("#figures dd").nth(FIGURES.index("Output tokens"))
    for load in ("first", "again"):
        await expect(output).not_to_have_text(re.compile(f"^({UNKNOWN}|0)$"))
        before = await figures(page)
        await expect(output).not_to_have_text(before["Output tokens"])
        after = await figures(page)
        assert not (await very_slow.latest_prediction()).status.terminal, load
        assert figure_value(after["Generated in"]) > figure_value(before["Generated in"]), load
        assert figure_value(after["Output tokens"]) > figure_value(before["Output tokens"]), load
        assert figure_value(after["Tokens per second"]) > 0, load
        assert figure_value(after["Input tokens"]) > 0, load
        if load == "first":
            await page.reload()
            assert first_number((await figures(page))["Output tokens"]) >= first_number(after["Output tokens"])
    elapsed_s = first_number((await figures(page))["Generated in"])
    await page.click("#stop")
    await expect(page.locator("#told")).to_have_text("Canceled.")
    prediction = await very_slow.wait_for_latest()
    shown = await figures(page)
    assert first_number(shown["Output tokens"]) == prediction.completion_tokens
    assert first_number(shown["Generated in"]) == pytest.approx(elapsed_s, abs=1.5)


async def test_stop_without_connection_cancels_after_reconnecting(
    very_slow: BrowserTestServer, open_page: Open
) -> None:
    page = await playground(open_page, very_slow)
    await ask(page, "Say much.", max_tokens=ANSWER_TOKENS)
    await expect(page.locator("#answer")).to_contain_text("inline")
    await very_slow.proxy.stop()
    try:
        await page.click("#stop")
        await expect(page.locator("#told")).to_contain_text("The run is stopped as soon as it is back")
    finally:
        await very_slow.proxy.start()
    await expect(page.locator("#told")).to_have_text("Canceled.")
    prediction = await very_slow.latest_prediction()
    assert (prediction.status, prediction.stopped_by) == (Status.CANCELED, StoppedBy.CALLER)


async def test_stop_without_connection_is_kept_across_a_reload(very_slow: BrowserTestServer, open_page: Open) -> None:
    page = await playground(open_page, very_slow)
    await ask(page, "Say much.", max_tokens=ANSWER_TOKENS)
    await expect(page.locator("#answer")).to_contain_text("inline")
    # Only the page's POST requests fail; the page itself can be reloaded.
    await page.route("**/cancel", lambda route: route.abort())
    await page.click("#stop")
    await expect(page.locator("#told")).to_contain_text("The run is stopped as soon as it is back")
    assert not (await very_slow.latest_prediction()).status.terminal
    await page.unroute("**/cancel")
    await page.reload()
    await expect(page.locator("#told")).to_have_text("Canceled.")
    assert (await very_slow.latest_prediction()).status is Status.CANCELED


async def test_chat_of_three_turns_sends_its_history(live: BrowserTestServer, open_page: Open) -> None:
    page = await playground(open_page, live)
    await page.click("label[for=mode-chat]")
    await page.fill("#in-max_tokens", "16")
    asked = ["My horse is called Star.", "What is my horse called?", "And who am I?"]
    for number_, prompt in enumerate(asked, 1):
        await ask(page, prompt)
        await expect(page.locator("#said li")).to_have_count(2 * number_)
        await wait_for_answer(page)
    assert [await page.locator("#said .turn-user .words").nth(index).inner_text() for index in range(3)] == asked
    shown: dict[str, Any] = ((await live.latest_prediction()).input or {})["shown"]
    told = json.dumps(shown)
    assert all(prompt in told for prompt in asked)
    assert told.index(asked[0]) < told.index(asked[1]) < told.index(asked[2])
    first_answer = await page.locator("#said .turn-assistant .words").first.inner_text()
    assert first_answer.split()[0] in told
    await page.reload()
    await expect(page.locator("#said li")).to_have_count(6)


async def test_enter_submits_and_shift_enter_adds_a_line(live: BrowserTestServer, open_page: Open) -> None:
    page = await playground(open_page, live)
    await page.fill("#in-max_tokens", "4")
    await page.fill("#in-prompt", "")
    await page.focus("#in-prompt")
    await page.keyboard.type("Hello")
    await page.keyboard.press("Shift+Enter")
    await page.keyboard.type("there")
    assert await page.input_value("#in-prompt") == "Hello\nthere"
    await page.keyboard.press("Enter")
    await wait_for_answer(page)
    shown = ((await live.latest_prediction()).input or {})["shown"]
    assert shown["prompt"] == "Hello\nthere"


async def test_on_a_phone_enter_adds_a_line_and_the_button_submits(live: BrowserTestServer, open_page: Open) -> None:
    phone = {"viewport": PHONE, "has_touch": True, "is_mobile": True}
    page = await open_page(live, PATH, signed_in=True, **phone)
    await expect(page.locator("[data-playground]")).to_have_attribute("data-ready", "yes")
    await expect(page.locator(".by-keyboard:visible")).to_have_count(0)
    await page.fill("#in-max_tokens", "4")
    await page.fill("#in-prompt", "Hello")
    await page.press("#in-prompt", "End")
    await page.press("#in-prompt", "Enter")
    await page.locator("#in-prompt").press_sequentially("there")
    assert await page.input_value("#in-prompt") == "Hello\nthere"
    await page.tap("#run")
    await wait_for_answer(page)
    assert (((await live.latest_prediction()).input or {})["shown"])["prompt"] == "Hello\nthere"


async def test_run_works_by_keyboard(live: BrowserTestServer, open_page: Open) -> None:
    page = await playground(open_page, live)
    order = await tab_order(page, 40)
    assert order[0] == "Skip to content"
    assert is_subsequence(["in-prompt", "run", "reset", "in-system_prompt", "in-max_tokens"], order), order
    await page.fill("#in-max_tokens", "4")
    await page.focus("#run")
    await page.keyboard.press("Enter")
    await wait_for_answer(page)
    await expect(page.locator("#run")).to_be_focused()


@pytest.mark.parametrize(
    ("inputs", "field", "message"),
    [
        ({"temperature": "7"}, "temperature", "Must be less than or equal to 5"),
        ({"top_p": "-1"}, "top_p", "Must be greater than or equal to 0"),
        ({"max_tokens": "1.5"}, "max_tokens", "Invalid type. Expected: integer, given: number"),
        ({"prompt_template": "nothing to fill"}, "prompt_template", "E1003"),
        ({"max_tokens": "8", "max_new_tokens": "9"}, "max_new_tokens", "E1102"),
    ],
)
async def test_errors_are_shown_beside_their_field_with_the_api_message(
    live: BrowserTestServer, open_page: Open, inputs: dict[str, str], field: str, message: str
) -> None:
    page = await playground(open_page, live)
    await ask(page, "Hello!", **inputs)
    fault = page.locator(f"#fault-{field}")
    await expect(fault).to_contain_text(message)
    control = page.locator(f"#in-{field}")
    await expect(control).to_have_attribute("aria-invalid", "true")
    await expect(control).to_be_focused()
    assert f"fault-{field}" in (await control.get_attribute("aria-describedby") or "")
    await expect(page.locator("#run")).to_be_visible()
    assert await page.locator(".fault:visible").count() == 1
    # ... and is forgotten once it is mended.
    for name, value in {
        "temperature": "0.7",
        "top_p": "0.9",
        "max_tokens": "8",
        "max_new_tokens": "",
        "prompt_template": "{prompt}",
    }.items():
        await page.fill(f"#in-{name}", value)
    await page.click("#run")
    await wait_for_answer(page)
    assert await page.locator(".fault:visible").count() == 0


async def test_signed_out_visitor_sees_the_page_and_is_asked_to_sign_in(
    live: BrowserTestServer, open_page: Open
) -> None:
    page = await playground(open_page, live, signed_in=False)
    await expect(page.locator("#in-prompt")).to_be_visible()
    await expect(page.locator("#run")).to_have_count(0)
    link = page.get_by_role("link", name="Sign in to run")
    assert re.search(r"/sign-in\?next=/meta", await link.get_attribute("href") or "")
    await page.focus("#in-prompt")
    await page.keyboard.press("Enter")
    await expect(page.locator("#in-prompt")).to_be_visible()
    assert page.url.endswith(PATH)


async def test_reset_restores_the_default_form(live: BrowserTestServer, open_page: Open) -> None:
    page = await playground(open_page, live)
    first_prompt = await page.input_value("#in-prompt")
    await page.fill("#in-prompt", "Something else")
    await page.fill("#in-top_k", "3")
    await page.click("#reset")
    await expect(page.locator("#in-prompt")).to_have_value(first_prompt)
    await expect(page.locator("#in-top_k")).not_to_have_value("3")


async def test_lost_connection_is_reported_and_reconnects(slow: BrowserTestServer, open_page: Open) -> None:
    page = await playground(open_page, slow)
    await ask(page, "Say much.", max_tokens=ANSWER_TOKENS)
    await expect(page.locator("#answer")).to_contain_text("inline")
    await slow.proxy.stop()
    try:
        await expect(page.locator("#told")).to_contain_text(re.compile("lost|cannot be reached"))
        assert "inline" in await page.inner_text("#answer")
    finally:
        await slow.proxy.start()
    await wait_for_answer(page)
    prediction = await slow.latest_prediction()
    assert prediction.status is Status.SUCCEEDED
    assert (await page.inner_text("#answer")).count(SENTENCE) == "".join(prediction.texts or []).count(SENTENCE)


async def test_stopped_server_is_reported_and_the_run_starts_when_it_is_back(
    live: BrowserTestServer, open_page: Open
) -> None:
    page = await playground(open_page, live)
    before = await live.latest_prediction()
    await live.proxy.stop()
    try:
        await ask(page, "Are you there?", max_tokens=4)
        await expect(page.locator("#told")).to_contain_text("The server cannot be reached")
        await expect(page.locator("#in-prompt")).to_have_value("Are you there?")
    finally:
        await live.proxy.start()
    await wait_for_answer(page)
    prediction = await live.latest_prediction()
    assert prediction.id != before.id
    assert ((prediction.input or {})["shown"])["prompt"] == "Are you there?"
