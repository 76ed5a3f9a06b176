"""The pages of one model, as anybody sees them."""

import gzip
import html
import json
import re

import pytest
from httpx2 import AsyncClient

from corral.web.assets import assets
from tests.doors.live_server import SECRET
from tests.web.conftest import PageServer
from tests.web.people import Person
from tests.web.test_foundation import FIRST_PAGE_BYTES, Page

MODEL = "/meta/llama-2-70b-chat"
TABS = ("", "/api", "/examples", "/readme", "/versions")

pytestmark = pytest.mark.anyio


def seen(page: str) -> str:
    """The text of a page, its white space as one blank."""
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page)))


async def test_every_tab_is_there_for_every_model_and_needs_nothing_from_elsewhere(
    live: PageServer, stranger: AsyncClient
) -> None:
    for model in live.made.catalog.models():
        for tab in TABS:
            answer = await stranger.get(f"/{model.id}{tab}")
            assert answer.status_code == 200, (model.id, tab)
            page = Page(answer.text)
            assert page.inline == [], (model.id, tab)
            assert all(path.startswith("/") and not path.startswith("//") for path in page.loaded)
            assert answer.text.count('aria-current="page"') == 1


async def test_the_model_page_with_all_that_it_loads_is_small(stranger: AsyncClient) -> None:
    answer = await stranger.get(MODEL)
    paths = [*dict.fromkeys(Page(answer.text).loaded), f"/static/answer.js?v={assets()['answer.js'].digest}"]
    files = [await stranger.get(path) for path in paths]
    assert all(file.status_code == 200 for file in files)
    assert sum(len(gzip.compress(each.content)) for each in (answer, *files)) <= FIRST_PAGE_BYTES


async def test_the_heading_has_the_facts_of_the_model(stranger: AsyncClient) -> None:
    page = seen((await stranger.get(MODEL)).text)
    for text in ("Official", "A 70 billion parameter language model from Meta", "Public", "0 runs", "Priced per token"):
        assert text in page
    for text in ("GitHub", "Paper", "License", "Playground", "API", "Examples", "README", "Versions"):
        assert text in page
    assert "Official" not in seen((await stranger.get("/corral/demo")).text)


async def test_the_form_says_of_each_input_what_the_model_s_own_page_says(stranger: AsyncClient) -> None:
    page = seen((await stranger.get(MODEL)).text)
    for text in (
        "prompt * required string",
        "Shift + Return to add a new line",
        "max_tokens integer (minimum: 1)",
        "Maximum number of tokens to generate. A word is generally 2-3 tokens. Default: 512",
        "temperature number (minimum: 0, maximum: 5)",
        "Adjusts randomness of outputs, greater than 1 is random and 0 is deterministic,",
        "top_p number (minimum: 0, maximum: 1)",
        'Default: "You are a helpful, respectful and honest assistant.',
        "Random seed. Leave blank to randomize the seed.",
        "log_performance_metrics boolean Default: false",
        "This parameter has been renamed to min_tokens.",
    ):
        assert text in page


async def test_the_price_table_is_that_of_the_model_and_the_stand_in_is_free(stranger: AsyncClient) -> None:
    page = seen((await stranger.get(MODEL)).text)
    assert "Type Per unit Per $1 Input $0.65 / 1M tokens 1.5M tokens / $1 Output $2.75 / 1M tokens 360K tokens" in page
    assert "for $10 you can run around 5,168 predictions" in page
    assert "Here and now it is free: the demo model stands in." in page
    assert "corral pull meta-llama/Llama-2-70b-chat-hf" in page
    assert "This model is free of charge" in seen((await stranger.get("/corral/demo")).text)


async def test_it_opens_with_a_run_that_really_was(live: PageServer, stranger: AsyncClient) -> None:
    example = live.made.catalog.get("meta/llama-2-70b-chat").page.examples[0]
    page = (await stranger.get(MODEL)).text
    assert f"{example.input['prompt']}</textarea>" in html.unescape(page)
    shown = json.loads(html.unescape(page.partition('id="json" hidden>')[2].partition("</pre>")[0]))
    assert shown["id"] == example.id
    assert f"{example.completion_tokens:,}" in page


async def test_each_example_opens_in_the_form(live: PageServer, stranger: AsyncClient) -> None:
    listed = (await stranger.get(f"{MODEL}/examples")).text
    for example in live.made.catalog.get("meta/llama-2-70b-chat").page.examples:
        assert f'href="{MODEL}?example={example.id}"' in listed
        page = html.unescape((await stranger.get(MODEL, params={"example": example.id})).text)
        assert f"{example.input['prompt']}</textarea>" in page


async def test_a_stranger_is_told_to_sign_in_and_cannot_run(stranger: AsyncClient) -> None:
    page = (await stranger.get(MODEL)).text
    assert "Sign in to run" in page
    assert 'id="run"' not in page
    assert (await stranger.post(f"{MODEL}/run", data={"prompt": "Hi"})).status_code == 401


async def test_whoever_is_signed_in_can_run(browser: AsyncClient) -> None:
    page = (await browser.get(MODEL)).text
    assert 'id="run"' in page
    assert "Sign in to run" not in page


async def test_the_code_page_has_code_for_what_is_sent_and_says_what_cannot_be_asked(stranger: AsyncClient) -> None:
    shown = html.unescape((await stranger.post(f"{MODEL}/api", data={"prompt": "<i>", "top_k": "5"})).text)
    assert '"top_k": 5' in shown
    assert "<i>" in shown
    part = await stranger.post(f"{MODEL}/api", data={"prompt": "", "top_p": "4"}, headers={"hx-request": "true"})
    assert part.text.lstrip().startswith('<div id="code">')
    for text in ("prompt is required", "Must be less than or equal to 1"):
        assert text in part.text
    more = html.unescape((await stranger.post(f"{MODEL}/api", data={"prompt": "x", "min_tokens": "4"})).text)
    assert "because this API does not have it: <code>min_tokens</code>" in more


async def test_what_is_sent_is_never_read_as_a_page(stranger: AsyncClient) -> None:
    hostile = "</textarea></code><script>alert(1)</script>"
    for path in (f"{MODEL}/api",):
        page = Page((await stranger.post(path, data={"prompt": hostile, "stop_sequences": hostile})).text)
        assert page.inline == []
    assert Page((await stranger.get(MODEL, params={"example": hostile, "prediction": hostile})).text).inline == []


async def test_the_versions_are_those_of_the_catalog(live: PageServer, stranger: AsyncClient) -> None:
    page = (await stranger.get(f"{MODEL}/versions")).text
    for version in live.made.catalog.get("meta/llama-2-70b-chat").versions:
        assert version.id in page


async def test_the_readme_is_drawn_from_its_markdown(stranger: AsyncClient) -> None:
    page = (await stranger.get(f"{MODEL}/readme")).text
    assert '<h2 dir="auto">How to prompt Llama 2 chat</h2>' in page or "<h2>How to prompt Llama 2 chat</h2>" in page
    assert 'rel="noopener nofollow"' in page


async def test_a_module_imports_others_by_their_digest(stranger: AsyncClient) -> None:
    playground = (await stranger.get(f"/static/playground.js?v={assets()['playground.js'].digest}")).text
    assert f'from "./answer.js?v={assets()["answer.js"].digest}"' in playground


async def test_a_name_in_other_letters_leads_to_the_model_and_no_name_to_a_page_that_says_so(
    stranger: AsyncClient,
) -> None:
    other = await stranger.get("/meta/Llama-2-70B-chat")
    assert (other.status_code, other.headers["location"]) == (303, MODEL)
    unknown = await stranger.get("/meta/<llama>")
    assert unknown.status_code == 404
    assert unknown.headers["content-type"].startswith("text/html")
    assert "Model &#39;meta/&lt;llama&gt;&#39; not found." in unknown.text


async def test_every_address_in_the_json_of_an_example_works(live: PageServer, browser: AsyncClient) -> None:
    for model in live.made.catalog.models():
        for example in model.page.examples:
            page = (await browser.get(f"/{model.id}", params={"example": example.id})).text
            shown = json.loads(html.unescape(page.partition('id="json" hidden>')[2].partition("</pre>")[0]))
            web = await browser.get(shown["urls"]["web"])
            assert web.status_code == 200
            assert f"{example.input['prompt']}</textarea>" in html.unescape(web.text)
            got = await browser.get(shown["urls"]["get"], headers={"authorization": f"Bearer {SECRET}"})
            assert got.json()["id"] == example.id


async def test_a_prediction_or_an_example_that_is_not_there_is_said(
    stranger: AsyncClient, browser: AsyncClient
) -> None:
    for params, text in (
        ({"prediction": "nope<i>"}, "Your account has no prediction “nope<i>”."),
        ({"example": "nope<i>"}, "There is no example “nope<i>”."),
    ):
        page = await browser.get(MODEL, params=params)
        assert page.status_code == 404
        assert text in html.unescape(page.text)
        assert Page(page.text).inline == []
        assert 'id="run"' in page.text
    page = await stranger.get(MODEL, params={"prediction": "nope"})
    assert "Sign in to see the prediction “nope”." in html.unescape(page.text)
    for params in ({"prediction": ""}, {"example": ""}):
        assert (await browser.get(MODEL, params=params)).status_code == 200


async def test_a_prediction_of_another_model_leads_to_its_own_playground(live: PageServer) -> None:
    person = await Person.make(live, "Gwen")
    kept = {"shown": {"prompt": "Hi."}, "request": {"prompt": {"raw": {"text": "Hi."}}}}
    prediction = await person.run(model="meta/llama-2-7b-chat", input=kept)
    signed_in = await person.browser()
    answer = await signed_in.see(f"{MODEL}?prediction={prediction.id}")
    assert answer.headers["location"] == f"/meta/llama-2-7b-chat?prediction={prediction.id}"
    assert (await signed_in.see(answer.headers["location"])).status_code == 200
    gone = await person.run(model="somebody/removed")
    answer = await signed_in.see(f"{MODEL}?prediction={gone.id}")
    assert answer.headers["location"] == f"/p/{gone.id}"
    assert (await signed_in.see(answer.headers["location"])).status_code == 200
    await signed_in.http.aclose()
