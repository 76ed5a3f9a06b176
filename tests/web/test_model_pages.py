"""Model pages without a session: tabs, form, code, examples, versions."""

import gzip
import html
import json
import re

import pytest
from httpx2 import AsyncClient

from corral.web.assets import assets
from tests.doors.live_server import SECRET
from tests.web.account_fixtures import StoredAccount
from tests.web.conftest import PageServer
from tests.web.test_foundation import FIRST_PAGE_BYTES, Page

MODEL = "/meta/llama-2-70b-chat"
TABS = ("", "/api", "/examples", "/readme", "/versions")

pytestmark = pytest.mark.anyio


def visible_text(page: str) -> str:
    """Visible text of a page with white space collapsed."""
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page)))


async def test_every_model_has_every_tab_without_external_resources(
    live: PageServer, anonymous_client: AsyncClient
) -> None:
    for model in live.server.catalog.models():
        for tab in TABS:
            answer = await anonymous_client.get(f"/{model.id}{tab}")
            assert answer.status_code == 200, (model.id, tab)
            page = Page(answer.text)
            assert page.inline == [], (model.id, tab)
            assert all(path.startswith("/") and not path.startswith("//") for path in page.loaded)
            assert answer.text.count('aria-current="page"') == 1


async def test_model_page_with_its_resources_is_small(anonymous_client: AsyncClient) -> None:
    answer = await anonymous_client.get(MODEL)
    paths = [*dict.fromkeys(Page(answer.text).loaded), f"/static/answer.js?v={assets()['answer.js'].digest}"]
    files = [await anonymous_client.get(path) for path in paths]
    assert all(file.status_code == 200 for file in files)
    assert sum(len(gzip.compress(each.content)) for each in (answer, *files)) <= FIRST_PAGE_BYTES


async def test_heading_shows_the_model_facts(anonymous_client: AsyncClient) -> None:
    page = visible_text((await anonymous_client.get(MODEL)).text)
    for text in ("Official", "A 70 billion parameter language model from Meta", "Public", "0 runs", "Priced per token"):
        assert text in page
    for text in ("GitHub", "Paper", "License", "Playground", "API", "Examples", "README", "Versions"):
        assert text in page
    assert "Official" not in visible_text((await anonymous_client.get("/corral/demo")).text)


async def test_form_describes_inputs_as_the_published_model_page(anonymous_client: AsyncClient) -> None:
    page = visible_text((await anonymous_client.get(MODEL)).text)
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


async def test_price_table_shows_the_model_price_and_the_free_demo_model(anonymous_client: AsyncClient) -> None:
    page = visible_text((await anonymous_client.get(MODEL)).text)
    assert "Type Per unit Per $1 Input $0.65 / 1M tokens 1.5M tokens / $1 Output $2.75 / 1M tokens 360K tokens" in page
    assert "for $10 you can run around 5,168 predictions" in page
    assert "Here and now it is free: the demo model stands in." in page
    assert "corral pull meta-llama/Llama-2-70b-chat-hf" in page
    assert "This model is free of charge" in visible_text((await anonymous_client.get("/corral/demo")).text)


async def test_playground_opens_with_a_recorded_example(live: PageServer, anonymous_client: AsyncClient) -> None:
    example = live.server.catalog.get("meta/llama-2-70b-chat").page.examples[0]
    page = (await anonymous_client.get(MODEL)).text
    assert f"{example.input['prompt']}</textarea>" in html.unescape(page)
    shown = json.loads(html.unescape(page.partition('id="json" hidden>')[2].partition("</pre>")[0]))
    assert shown["id"] == example.id
    assert f"{example.completion_tokens:,}" in page


async def test_each_example_opens_in_the_form(live: PageServer, anonymous_client: AsyncClient) -> None:
    listed = (await anonymous_client.get(f"{MODEL}/examples")).text
    for example in live.server.catalog.get("meta/llama-2-70b-chat").page.examples:
        assert f'href="{MODEL}?example={example.id}"' in listed
        page = html.unescape((await anonymous_client.get(MODEL, params={"example": example.id})).text)
        assert f"{example.input['prompt']}</textarea>" in page


async def test_anonymous_client_cannot_run_and_is_asked_to_sign_in(anonymous_client: AsyncClient) -> None:
    page = (await anonymous_client.get(MODEL)).text
    assert "Sign in to run" in page
    assert 'id="run"' not in page
    assert (await anonymous_client.post(f"{MODEL}/run", data={"prompt": "Hi"})).status_code == 401


async def test_signed_in_browser_can_run(browser: AsyncClient) -> None:
    page = (await browser.get(MODEL)).text
    assert 'id="run"' in page
    assert "Sign in to run" not in page


async def test_code_page_shows_code_for_the_inputs_and_lists_unsupported_ones(anonymous_client: AsyncClient) -> None:
    shown = html.unescape((await anonymous_client.post(f"{MODEL}/api", data={"prompt": "<i>", "top_k": "5"})).text)
    assert '"top_k": 5' in shown
    assert "<i>" in shown
    part = await anonymous_client.post(
        f"{MODEL}/api", data={"prompt": "", "top_p": "4"}, headers={"hx-request": "true"}
    )
    assert part.text.lstrip().startswith('<div id="code">')
    for text in ("prompt is required", "Must be less than or equal to 1"):
        assert text in part.text
    more = html.unescape((await anonymous_client.post(f"{MODEL}/api", data={"prompt": "x", "min_tokens": "4"})).text)
    assert "because this API does not have it: <code>min_tokens</code>" in more


async def test_form_values_are_escaped(anonymous_client: AsyncClient) -> None:
    hostile = "</textarea></code><script>alert(1)</script>"
    for path in (f"{MODEL}/api",):
        page = Page((await anonymous_client.post(path, data={"prompt": hostile, "stop_sequences": hostile})).text)
        assert page.inline == []
    assert (
        Page((await anonymous_client.get(MODEL, params={"example": hostile, "prediction": hostile})).text).inline == []
    )


async def test_versions_tab_lists_the_catalog_versions(live: PageServer, anonymous_client: AsyncClient) -> None:
    page = (await anonymous_client.get(f"{MODEL}/versions")).text
    for version in live.server.catalog.get("meta/llama-2-70b-chat").versions:
        assert version.id in page


async def test_readme_is_rendered_from_markdown(anonymous_client: AsyncClient) -> None:
    page = (await anonymous_client.get(f"{MODEL}/readme")).text
    assert '<h2 dir="auto">How to prompt Llama 2 chat</h2>' in page or "<h2>How to prompt Llama 2 chat</h2>" in page
    assert 'rel="noopener nofollow"' in page


async def test_script_modules_are_imported_by_digest(anonymous_client: AsyncClient) -> None:
    playground = (await anonymous_client.get(f"/static/playground.js?v={assets()['playground.js'].digest}")).text
    assert f'from "./answer.js?v={assets()["answer.js"].digest}"' in playground


async def test_model_name_in_other_case_redirects_and_unknown_name_is_404(
    anonymous_client: AsyncClient,
) -> None:
    other = await anonymous_client.get("/meta/Llama-2-70B-chat")
    assert (other.status_code, other.headers["location"]) == (303, MODEL)
    unknown = await anonymous_client.get("/meta/<llama>")
    assert unknown.status_code == 404
    assert unknown.headers["content-type"].startswith("text/html")
    assert "Model &#39;meta/&lt;llama&gt;&#39; not found." in unknown.text


async def test_every_url_in_the_example_json_works(live: PageServer, browser: AsyncClient) -> None:
    for model in live.server.catalog.models():
        for example in model.page.examples:
            page = (await browser.get(f"/{model.id}", params={"example": example.id})).text
            shown = json.loads(html.unescape(page.partition('id="json" hidden>')[2].partition("</pre>")[0]))
            web = await browser.get(shown["urls"]["web"])
            assert web.status_code == 200
            assert f"{example.input['prompt']}</textarea>" in html.unescape(web.text)
            got = await browser.get(shown["urls"]["get"], headers={"authorization": f"Bearer {SECRET}"})
            assert got.json()["id"] == example.id


async def test_missing_prediction_or_example_is_reported(anonymous_client: AsyncClient, browser: AsyncClient) -> None:
    for params, text in (
        ({"prediction": "nope<i>"}, "Your account has no prediction “nope<i>”."),
        ({"example": "nope<i>"}, "There is no example “nope<i>”."),
    ):
        page = await browser.get(MODEL, params=params)
        assert page.status_code == 404
        assert text in html.unescape(page.text)
        assert Page(page.text).inline == []
        assert 'id="run"' in page.text
    page = await anonymous_client.get(MODEL, params={"prediction": "nope"})
    assert "Sign in to see the prediction “nope”." in html.unescape(page.text)
    for params in ({"prediction": ""}, {"example": ""}):
        assert (await browser.get(MODEL, params=params)).status_code == 200


async def test_prediction_of_another_model_redirects_to_its_playground(live: PageServer) -> None:
    stored_account = await StoredAccount.create(live, "Gwen")
    kept = {"shown": {"prompt": "Hi."}, "request": {"prompt": {"raw": {"text": "Hi."}}}}
    prediction = await stored_account.run(model="meta/llama-2-7b-chat", input=kept)
    signed_in = await stored_account.browser()
    answer = await signed_in.get(f"{MODEL}?prediction={prediction.id}")
    assert answer.headers["location"] == f"/meta/llama-2-7b-chat?prediction={prediction.id}"
    assert (await signed_in.get(answer.headers["location"])).status_code == 200
    gone = await stored_account.run(model="somebody/removed")
    answer = await signed_in.get(f"{MODEL}?prediction={gone.id}")
    assert answer.headers["location"] == f"/p/{gone.id}"
    assert (await signed_in.get(answer.headers["location"])).status_code == 200
    await signed_in.http.aclose()
