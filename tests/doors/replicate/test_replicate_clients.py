"""The official Node client over the whole door, and both official clients over hard text and many pages."""

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from replicate.pagination import async_paginate

from tests.doors.replicate.node_client import node
from tests.doors.replicate.scenes import CHAT, PLAIN, TERMINAL, TINY, create, in_thread, official, scripted
from tests.official_validators import needs_node
from tests.server.conftest import RealServer
from tests.server.harness import SCRIPT, OpenServer, ServerHarness
from tests.unit.service.desk import ByteTokenizer

pytestmark = pytest.mark.anyio

SLOW = 0.02
"""Seconds a step."""
BRISK = 0.003
"""Long enough for readers to get most tokens one by one, so that FILES do begin chunks."""
GIVEN: dict[str, Any] = {"prompt": "Hi", **PLAIN, "seed": 5}
FILES = ("https:", "data:")
"""What the Python client takes for the beginning of a file; each is one token here."""
TEXT = (
    "  two spaces; a blank line:\n\n\n  \U0001f468\u200d\U0001f469\u200d\U0001f467 \u00e9\u65e5\u672c\u8a9e\n"
    "data: {}\nevent: done\nid: 9\n: no comment\n\ndata:\ndata: \n\thttps://example.com/ is at https:, data: and\n\n"
)
"""Of bytes and FILES, so that the family arrives in eighteen tokens."""
SPOKEN = TEXT.removeprefix(" ")
"""The space that a tokenizer puts before a first word is no part of an answer."""


def ids_of(text: str) -> tuple[int, ...]:
    """A token for each of FILES, and one for every byte of the rest."""
    ids: list[int] = []
    for part in re.split(f"({'|'.join(FILES)})", text):
        ids += [SCRIPT["vocab_size"] + FILES.index(part)] if part in FILES else ByteTokenizer().encode(part)
    return tuple(ids)


@pytest.fixture(scope="module")
async def slow(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OpenServer]:
    """A server whose runs take their time, with more predictions than a page has."""
    async with scripted(tmp_path_factory.mktemp("slow"), step_s=SLOW) as (live, http):
        for _ in range(120):
            failed = await create(http, **{**GIVEN, "prompt_template": "no prompt in it"})
            assert failed["status"] == "failed"
        yield live


@pytest.fixture(scope="module")
async def speaking(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OpenServer]:
    """A server that says TEXT."""
    harness = ServerHarness.create(tmp_path_factory.mktemp("speaking"), more_pieces=FILES)
    script = {"answer": ids_of(TEXT), "vocab_size": SCRIPT["vocab_size"] + len(FILES)}
    async with harness.server(**script, step_s=BRISK) as live:
        yield live


@pytest.fixture(scope="module")
async def got(server: RealServer, slow: OpenServer, speaking: OpenServer) -> dict[str, Any]:
    """What the Node client got from all three."""
    return await node(
        "replicate_door.mjs",
        real=server.url,
        slow=slow.url,
        speaking=speaking.url,
        chat=CHAT,
        tiny=TINY,
        seconds={**GIVEN, "max_tokens": 70},
        endless={**GIVEN, "max_tokens": 2000},
    )


def said(events: list[dict[str, Any]]) -> str:
    """What the outputs among a stream's events add up to."""
    return "".join(event["data"] for event in events if event["event"] == "output")


@needs_node
async def test_a_base_url_with_v1_and_a_key_of_the_environment_are_all_that_node_needs(got: dict[str, Any]) -> None:
    assert got["models"]["account"]["name"] == "local"
    assert got["whole"]["output"]


@needs_node
async def test_a_wrong_key_is_an_error_with_its_status_in_node(got: dict[str, Any]) -> None:
    wrong = got["refusals"]["wrongKey"]
    assert (wrong["name"], wrong["status"], wrong["requests"]) == ("ApiError", 401, 1)
    assert "You did not pass a valid authentication token" in wrong["message"]


@needs_node
async def test_run_in_node_gives_an_array_and_tells_of_progress(got: dict[str, Any]) -> None:
    for way in ("whole", "ofVersion", "polled"):
        answer = got[way]
        assert answer["output"] == answer["stored"] == got["waited"]["output"]
        assert len(answer["seen"]) >= 2
        assert answer["seen"][-1]["status"] == "succeeded"
    assert all(isinstance(chunk, str) for chunk in got["whole"]["output"])
    assert got["waited"]["status"] == "succeeded"


@needs_node
async def test_a_stream_in_node_ends_with_done_and_has_the_same_text(got: dict[str, Any]) -> None:
    events = got["streamed"]
    assert [event["event"] for event in events] == ["output"] * (len(events) - 1) + ["done"]
    assert events[-1]["data"] == "{}"
    assert said(events) == "".join(got["whole"]["output"])
    assert len({event["id"] for event in events}) == len(events)


@needs_node
async def test_a_wait_that_is_too_short_still_gives_the_whole_text_in_node(got: dict[str, Any]) -> None:
    for answer in (got["unversioned"], got["versioned"]):
        assert [each["status"] for each in answer["seen"]][:2] == ["starting", "processing"]
        assert answer["output"] == answer["stored"]
    assert got["unversioned"]["output"] == got["versioned"]["output"]


@needs_node
async def test_cancel_in_node_ends_the_stream_and_keeps_what_there_is(got: dict[str, Any]) -> None:
    answer, events, later = (got["canceled"][name] for name in ("answer", "events", "later"))
    assert answer["status"] == later["status"] == "canceled"
    assert answer["output"] == later["output"]
    assert said(events) == "".join(later["output"])
    assert (events[-1]["event"], events[-1]["data"]) == ("done", '{"reason":"canceled"}')
    assert got["refusals"]["unknown"]["status"] == 404


@needs_node
async def test_an_aborted_run_in_node_is_canceled_and_gives_what_there_is(got: dict[str, Any]) -> None:
    assert got["aborted"]["seen"][-1] == "canceled"
    assert got["aborted"]["output"]


@needs_node
async def test_a_run_that_fails_is_an_error_with_its_reason_in_node(got: dict[str, Any]) -> None:
    refused = got["refusals"]
    assert refused["tooLong"]["message"].startswith("Prediction failed: E1002 PromptTooLong: Prompt length (")
    assert refused["tooLongStreamed"]["message"].startswith('{"detail":"E1002 PromptTooLong: ')


@needs_node
async def test_models_collections_hardware_and_account_are_read_by_node(got: dict[str, Any]) -> None:
    models = got["models"]
    assert models["model"]["default_example"]["status"] == "succeeded"
    assert models["version"] == models["model"]["latest_version"]["id"] == models["versions"][0]
    assert CHAT in models["listed"]
    assert CHAT in models["searched"]
    assert models["nothing"] == []
    assert models["collection"]["models"]
    assert models["hardware"][0]["sku"] == "cpu"
    assert models["account"]["name"] == "local"
    assert models["secret"]["key"].startswith("whsec_")


async def test_more_than_a_page_is_walked_to_its_end_and_no_further(slow: OpenServer) -> None:
    async with official(slow.url) as client, slow.http() as http:
        pages = [page async for page in async_paginate(client.predictions.async_list)]
        ids = [prediction.id for page in pages for prediction in page.results]
        exactly = (await http.get("/v1/predictions", params={"created_before": pages[0].results[-1].created_at})).json()
    assert len(ids) >= 120
    assert len(set(ids)) == len(ids)
    assert [len(page.results) for page in pages] == [100, len(ids) - 100]
    times = [prediction.created_at or "" for page in pages for prediction in page.results]
    assert times == sorted(times, reverse=True)
    assert str(pages[0].next).startswith(f"{slow.url}/v1/predictions?cursor=")
    async with slow.http() as http:
        first = (await http.get(f"/v1/models/{TINY}/predictions")).json()
        assert first["next"].startswith(f"{slow.url}/v1/models/{TINY}/predictions?cursor=")
        second = (await http.get(first["next"])).json()
    of_model = [one["id"] for one in (*first["results"], *second["results"])]
    assert (len(first["results"]), of_model, second["next"]) == (100, ids, None)
    assert pages[-1].next is exactly["next"] is None


@needs_node
async def test_node_walks_the_same_pages(got: dict[str, Any], slow: OpenServer) -> None:
    async with official(slow.url) as client:
        pages = [page async for page in async_paginate(client.predictions.async_list)]
    assert [[each["id"] for each in page] for page in got["pages"]] == [
        [prediction.id for prediction in page.results] for page in pages
    ]
    assert {each["status"] for page in got["pages"] for each in page} <= TERMINAL


@needs_node
async def test_every_text_arrives_unchanged_in_node(got: dict[str, Any]) -> None:
    spoken = got["spoken"]
    assert said(spoken["events"]) == "".join(spoken["output"]) == "".join(spoken["stored"]) == SPOKEN


async def test_every_text_arrives_unchanged_in_python(speaking: OpenServer) -> None:
    async with official(speaking.url) as client:
        live = [event async for event in await client.async_stream(TINY, input=GIVEN)]
        prediction = (await client.predictions.async_list()).results[0]
        replayed = await in_thread(lambda: list(prediction.stream()))
    for events in (live, replayed):
        assert "".join(event.data for event in events if event.event.value == "output") == SPOKEN
        assert (events[-1].event.value, events[-1].data) == ("done", "{}")
    assert "".join(prediction.output) == SPOKEN


async def test_an_address_in_the_text_is_text_in_python(speaking: OpenServer) -> None:
    async with official(speaking.url) as client:
        streamed = await in_thread(lambda: [str(event) for event in client.stream(TINY, input=GIVEN)])
        whole = await in_thread(client.run, TINY, input=GIVEN)
    assert "".join(streamed) == "".join(whole) == SPOKEN
    assert "https://example.com/ is at https:, data: and" in SPOKEN
