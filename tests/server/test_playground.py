"""Running the model from its page, over real HTTP with the real engine."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from httpx2 import AsyncClient

from corral.service.accounts.api_keys import KeyTerms
from tests.doors.live_server import SECRET
from tests.server.conftest import RealServer

MODEL = "/meta/llama-2-70b-chat"
BY_SCRIPT = {"accept": "application/json"}

pytestmark = pytest.mark.anyio


def token_in(page: str) -> str:
    """CSRF token of this session's forms."""
    return page.partition('name="csrf-token" content="')[2].partition('"')[0]


class SignedInUser:
    """A signed-in browser session."""

    def __init__(self, browser: AsyncClient, token: str) -> None:
        self.browser = browser
        self.token = token

    async def send(self, path: str, **fields: str) -> Any:
        """Send a form as the page's script does."""
        answer = await self.browser.post(path, data={**fields, "csrf": self.token}, headers=BY_SCRIPT)
        return {"http": answer.status_code, **answer.json()}

    async def watch(self, run_id: str) -> list[tuple[str, Any]]:
        """Every event of a run."""
        answer = await self.browser.get(f"/p/{run_id}/events")
        assert answer.headers["content-type"].startswith("text/event-stream")
        return [(name, json.loads(data)) for name, data in re.findall(r"event: (\w+)\ndata: (.*)\n\n", answer.text)]

    async def run_state(self, run_id: str) -> Any:
        """Current state of a run as JSON."""
        return (await self.browser.get(f"/run/{run_id}")).json()


@pytest.fixture
async def user(server: RealServer) -> AsyncIterator[SignedInUser]:
    async with AsyncClient(base_url=server.url, timeout=60) as browser:
        await browser.post("/sign-in", data={"key": SECRET})
        page = (await browser.get(MODEL)).text
        yield SignedInUser(browser, token_in(page))


async def test_run_events_stream_output_then_figures(user: SignedInUser) -> None:
    started = await user.send(f"{MODEL}/run", prompt="What is a token?", seed="1")
    events = await user.watch(started["id"])
    assert events[0][0] == "begin"
    assert events[0][1].keys() == {"age_ms"}
    assert events[-1] == ("end", {})
    told = await user.run_state(started["id"])
    assert "".join(data["text"] for name, data in events if name == "text") == told["text"]
    assert (told["status"], told["over"], told["error"]) == ("succeeded", True, None)
    assert re.fullmatch(r"[0-9.]+ s", told["figures"][0])
    assert re.fullmatch(r"[0-9,.]+ tokens / second", told["figures"][3])
    assert told["figures"][4] == "$0"
    document = json.loads(told["json"])
    assert document["input"] == {"prompt": "What is a token?", "seed": 1}
    assert document["urls"]["web"].endswith(f"/p/{started['id']}")


async def test_events_of_an_ended_run_are_replayed_from_the_start(user: SignedInUser) -> None:
    started = await user.send(f"{MODEL}/run", prompt="Hello!")
    first, again = await user.watch(started["id"]), await user.watch(started["id"])
    texts = ["".join(data["text"] for name, data in events if name == "text") for events in (first, again)]
    assert texts[0] == texts[1] != ""


async def test_run_continues_after_its_page_is_closed_and_can_be_reopened(user: SignedInUser) -> None:
    started = await user.send(f"{MODEL}/run", prompt="Tell me a long story", max_tokens="60", top_k="2")
    page = (await user.browser.get(f"{MODEL}?prediction={started['id']}")).text
    assert f'data-prediction="{started["id"]}"' in page
    assert "Tell me a long story</textarea>" in page
    assert re.search(r'name="top_k"[^>]*value="2"|value="2"[^>]*name="top_k"', page)
    assert (await user.watch(started["id"]))[-1] == ("end", {})


async def test_stop_cancels_the_run_and_bills_emitted_tokens(user: SignedInUser) -> None:
    started = await user.send(f"{MODEL}/run", prompt="Tell me a long story", min_tokens="3000", max_tokens="3000")
    stopped = await user.send(f"/run/{started['id']}/cancel")
    assert (stopped["http"], stopped["status"], stopped["over"]) == (200, "canceled", True)
    assert (await user.watch(started["id"]))[-1] == ("end", {})


async def test_invalid_form_returns_errors_by_field_and_starts_no_run(user: SignedInUser) -> None:
    refused = await user.send(f"{MODEL}/run", prompt="", temperature="9", max_tokens="0")
    assert refused["http"] == 422
    assert refused["faults"] == {
        "prompt": "prompt is required",
        "max_tokens": "Must be greater than or equal to 1",
        "temperature": "Must be less than or equal to 5",
    }
    too_long = await user.send(f"{MODEL}/run", prompt="llama " * 5000)
    assert too_long["http"] == 422
    assert too_long["faults"]["prompt"].startswith("The prompt has")


async def test_form_without_javascript_shows_errors_or_redirects_to_the_prediction(user: SignedInUser) -> None:
    token = user.token
    refused = await user.browser.post(f"{MODEL}/run", data={"prompt": "<b>", "top_p": "7", "csrf": token})
    assert refused.status_code == 422
    assert "Must be less than or equal to 1" in refused.text
    assert "&lt;b&gt;</textarea>" in refused.text
    done = await user.browser.post(f"{MODEL}/run", data={"prompt": "Hello!", "csrf": token})
    assert done.status_code == 303
    assert done.headers["location"].startswith("/p/")


async def test_form_submitted_twice_starts_one_run(user: SignedInUser) -> None:
    once = "ab" * 16
    ids = {
        (await user.send(f"{MODEL}/run", prompt="Hello!", once=once))["id"],
        (await user.send(f"{MODEL}/run", prompt="Hello!", once=once))["id"],
    }
    assert len(ids) == 1
    assert (await user.send(f"{MODEL}/run", prompt="Bye!", once=once))["http"] == 409


async def test_chat_includes_previous_turns(user: SignedInUser) -> None:
    turns: list[dict[str, str]] = []
    for question in ("Hello!", "What is a llama?", "Tell me a joke"):
        started = await user.send(f"{MODEL}/run", prompt=question, mode="chat", turns=json.dumps(turns))
        await user.watch(started["id"])
        told = await user.run_state(started["id"])
        turns += [{"role": "user", "content": question}, {"role": "assistant", "content": told["text"].strip()}]
    said = json.loads(told["json"])["input"]["messages"]
    assert [message["role"] for message in said] == ["system", "user", "assistant", "user", "assistant", "user"]
    page = (await user.browser.get(f"{MODEL}?prediction={started['id']}")).text
    assert page.count('class="turn turn-user"') == 2
    assert 'data-mode="chat"' in page


@pytest.mark.parametrize("path", ["/run/{id}", "/p/{id}/events", "/run/{id}/cancel"])
async def test_run_of_another_account_cannot_be_read_or_stopped(
    server: RealServer, user: SignedInUser, path: str
) -> None:
    started = await user.send(f"{MODEL}/run", prompt="Hello!")
    other = await server.accounts.create(f"other {path}", unlimited=True)
    _, secret = await server.keys.create(other.id, KeyTerms(name="other"))
    address = path.format(id=started["id"])
    async with AsyncClient(base_url=server.url, timeout=60) as browser:
        signed_out = await browser.get(address.removesuffix("/cancel"))
        assert signed_out.status_code == 303
        await browser.post("/sign-in", data={"key": secret})
        page = (await browser.get(MODEL)).text
        token = token_in(page)
        if path.endswith("cancel"):
            answer = await browser.post(address, data={"csrf": token})
        else:
            answer = await browser.get(address)
        assert answer.status_code == 404
        shown = await browser.get(f"{MODEL}?prediction={started['id']}")
        unknown = await browser.get(f"{MODEL}?prediction={'0' * 26}")
        assert (shown.status_code, unknown.status_code) == (404, 404)
        assert shown.text == unknown.text.replace("0" * 26, started["id"])


@pytest.mark.parametrize("path", [f"{MODEL}/run", "/run/x/cancel"])
async def test_form_without_csrf_token_is_rejected(user: SignedInUser, path: str) -> None:
    answer = await user.browser.post(path, data={"prompt": "Hello!"})
    assert answer.status_code == 403
    foreign = await user.browser.post(
        path,
        data={"prompt": "x", "csrf": user.token},
        headers={"origin": "https://evil.example"},
    )
    assert foreign.status_code == 403


async def test_two_readers_of_one_run_receive_the_same_events(user: SignedInUser) -> None:
    started = await user.send(f"{MODEL}/run", prompt="Tell me a long story", max_tokens="40")
    one, two = await asyncio.gather(user.watch(started["id"]), user.watch(started["id"]))
    texts = ["".join(data["text"] for name, data in events if name == "text") for events in (one, two)]
    assert texts[0] == texts[1]


async def test_replicate_api_reports_playground_runs_with_source_web(server: RealServer, user: SignedInUser) -> None:
    mine = await user.send(f"{MODEL}/run", prompt="Hello!", max_tokens="1")
    async with server.http() as program:
        made = await program.post(f"/v1/models{MODEL}/predictions", json={"input": {"prompt": "Hi", "max_tokens": 1}})
        listed = (await program.get("/v1/predictions", params={"source": "web"})).json()
        everything = (await program.get("/v1/predictions")).json()
    sources = {each["id"]: each["source"] for each in everything["results"]}
    assert (sources[mine["id"]], sources[made.json()["id"]]) == ("web", "api")
    ids = [each["id"] for each in listed["results"]]
    assert mine["id"] in ids
    assert made.json()["id"] not in ids
    assert {each["source"] for each in listed["results"]} == {"web"}


@pytest.mark.parametrize(
    ("messages", "fits"),
    [
        ([{"role": "user", "content": "Hello there"}], True),
        ([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello there"}], True),
        ([{"role": "system", "content": "Hello there"}], False),
        ([{"role": "user", "content": [{"type": "text", "text": "Hello there"}]}], False),
        ([{"role": "developer", "content": "x"}, {"role": "user", "content": "Hello there"}], False),
        ([{"role": "user", "content": "a"}, {"role": "user", "content": "Hello there"}], False),
    ],
)
async def test_prediction_of_another_api_opens_in_the_form(
    server: RealServer, user: SignedInUser, messages: list[dict[str, Any]], fits: bool
) -> None:
    async with server.http() as program:
        body = {"model": MODEL[1:], "messages": messages, "max_tokens": 2}
        made = (await program.post("/v1/chat/completions", json=body)).headers["corral-prediction"]
    page = await user.browser.get(f"{MODEL}?prediction={made}")
    assert page.status_code == 200
    assert f'data-prediction="{made}"' in page.text
    assert ("Hello there</textarea>" in page.text) is fits
    elsewhere = (await user.browser.get(f"/corral/demo?prediction={made}")).text
    assert f'data-prediction="{made}"' not in elsewhere


@pytest.mark.parametrize(("stops", "text"), [(["END", " and"], "END, and"), (["a,b"], "")])
async def test_stop_sequences_open_in_the_form_as_text_where_possible(
    server: RealServer, user: SignedInUser, stops: list[str], text: str
) -> None:
    async with server.http() as program:
        body = {"input": {"prompt": "Hello there", "stop_sequences": stops, "max_tokens": 2}}
        made = (await program.post("/v1/models/meta/llama-2-7b-chat/predictions", json=body)).json()["id"]
    page = (await user.browser.get(f"/meta/llama-2-7b-chat?prediction={made}")).text
    assert "Hello there</textarea>" in page
    found = re.search(r'<textarea[^>]* name="stop_sequences"[^>]*>([^<]*)<', page)
    assert found is not None
    assert found[1].strip("\n") == text
