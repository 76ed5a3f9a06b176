"""The official Node client on all routes; both clients with difficult text and pagination."""

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from replicate.pagination import async_paginate

from tests.doors.replicate.node_client import node
from tests.doors.replicate.replicate_client import (
    CHAT,
    PLAIN,
    TERMINAL,
    TINY,
    create,
    official_client,
    run_in_thread,
    scripted_server,
)
from tests.official_validators import needs_node
from tests.server.conftest import RealServer
from tests.server.harness import SCRIPT, OpenServer, ServerHarness
from tests.unit.service.harness import ByteTokenizer

pytestmark = pytest.mark.anyio

SLOW = 0.02
"""Seconds per engine step."""
BRISK = 0.003
"""Long enough that most tokens are sent in own chunks, so that FILES begin chunks."""
GIVEN: dict[str, Any] = {"prompt": "Hi", **PLAIN, "seed": 5}
FILES = ("https:", "data:")
"""Prefixes that the Python client takes for file URLs; each is one token here."""
TEXT = (
    "  two spaces; a blank line:\n\n\n  \U0001f468\u200d\U0001f469\u200d\U0001f467 \u00e9\u65e5\u672c\u8a9e\n"
    "data: {}\nevent: done\nid: 9\n: no comment\n\ndata:\ndata: \n\thttps://example.com/ is at https:, data: and\n\n"
)
"""Vocabulary of bytes and FILES, so that the family emoji needs eighteen tokens."""
SPOKEN = TEXT.removeprefix(" ")
"""A leading space from the tokenizer is not part of the answer."""


def ids_of(text: str) -> tuple[int, ...]:
    """Encode *text*: one token per FILES prefix, one per other byte."""
    ids: list[int] = []
    for part in re.split(f"({'|'.join(FILES)})", text):
        ids += [SCRIPT["vocab_size"] + FILES.index(part)] if part in FILES else ByteTokenizer().encode(part)
    return tuple(ids)


@pytest.fixture(scope="module")
async def slow(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OpenServer]:
    """A server with slow runs and more predictions than fit on one page."""
    async with scripted_server(tmp_path_factory.mktemp("slow"), step_s=SLOW) as (live, http):
        for _ in range(120):
            failed = await create(http, **{**GIVEN, "prompt_template": "no prompt in it"})
            assert failed["status"] == "failed"
        yield live


@pytest.fixture(scope="module")
async def speaking(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OpenServer]:
    """A server that answers TEXT."""
    harness = ServerHarness.create(tmp_path_factory.mktemp("speaking"), more_pieces=FILES)
    script = {"answer": ids_of(TEXT), "vocab_size": SCRIPT["vocab_size"] + len(FILES)}
    async with harness.server(**script, step_s=BRISK) as live:
        yield live


@pytest.fixture(scope="module")
async def node_results(server: RealServer, slow: OpenServer, speaking: OpenServer) -> dict[str, Any]:
    """Results of the Node client with the three servers."""
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


def output_text(events: list[dict[str, Any]]) -> str:
    """Join the output events of a stream."""
    return "".join(event["data"] for event in events if event["event"] == "output")


@needs_node
async def test_node_client_needs_only_base_url_and_key(node_results: dict[str, Any]) -> None:
    assert node_results["models"]["account"]["name"] == "local"
    assert node_results["whole"]["output"]


@needs_node
async def test_node_client_reports_a_wrong_key(node_results: dict[str, Any]) -> None:
    wrong = node_results["refusals"]["wrongKey"]
    assert (wrong["name"], wrong["status"], wrong["requests"]) == ("ApiError", 401, 1)
    assert "You did not pass a valid authentication token" in wrong["message"]


@needs_node
async def test_node_run_returns_an_array_and_reports_progress(node_results: dict[str, Any]) -> None:
    for way in ("whole", "ofVersion", "polled"):
        answer = node_results[way]
        assert answer["output"] == answer["stored"] == node_results["waited"]["output"]
        assert len(answer["seen"]) >= 2
        assert answer["seen"][-1]["status"] == "succeeded"
    assert all(isinstance(chunk, str) for chunk in node_results["whole"]["output"])
    assert node_results["waited"]["status"] == "succeeded"


@needs_node
async def test_node_stream_ends_with_done_and_has_the_same_text(node_results: dict[str, Any]) -> None:
    events = node_results["streamed"]
    assert [event["event"] for event in events] == ["output"] * (len(events) - 1) + ["done"]
    assert events[-1]["data"] == "{}"
    assert output_text(events) == "".join(node_results["whole"]["output"])
    assert len({event["id"] for event in events}) == len(events)


@needs_node
async def test_node_run_with_a_short_wait_returns_the_whole_text(node_results: dict[str, Any]) -> None:
    for answer in (node_results["unversioned"], node_results["versioned"]):
        assert [each["status"] for each in answer["seen"]][:2] == ["starting", "processing"]
        assert answer["output"] == answer["stored"]
    assert node_results["unversioned"]["output"] == node_results["versioned"]["output"]


@needs_node
async def test_node_cancel_ends_the_stream_and_keeps_the_partial_output(node_results: dict[str, Any]) -> None:
    answer, events, later = (node_results["canceled"][name] for name in ("answer", "events", "later"))
    assert answer["status"] == later["status"] == "canceled"
    assert answer["output"] == later["output"]
    assert output_text(events) == "".join(later["output"])
    assert (events[-1]["event"], events[-1]["data"]) == ("done", '{"reason":"canceled"}')
    assert node_results["refusals"]["unknown"]["status"] == 404


@needs_node
async def test_node_abort_cancels_the_run_and_returns_the_partial_output(node_results: dict[str, Any]) -> None:
    assert node_results["aborted"]["seen"][-1] == "canceled"
    assert node_results["aborted"]["output"]


@needs_node
async def test_node_run_failure_is_an_error_with_its_reason(node_results: dict[str, Any]) -> None:
    refused = node_results["refusals"]
    assert refused["tooLong"]["message"].startswith("Prediction failed: E1002 PromptTooLong: Prompt length (")
    assert refused["tooLongStreamed"]["message"].startswith('{"detail":"E1002 PromptTooLong: ')


@needs_node
async def test_node_client_reads_models_collections_hardware_and_account(node_results: dict[str, Any]) -> None:
    models = node_results["models"]
    assert models["model"]["default_example"]["status"] == "succeeded"
    assert models["version"] == models["model"]["latest_version"]["id"] == models["versions"][0]
    assert CHAT in models["listed"]
    assert CHAT in models["searched"]
    assert models["nothing"] == []
    assert models["collection"]["models"]
    assert models["hardware"][0]["sku"] == "cpu"
    assert models["account"]["name"] == "local"
    assert models["secret"]["key"].startswith("whsec_")


async def test_python_client_paginates_to_the_end(slow: OpenServer) -> None:
    async with official_client(slow.url) as client, slow.http() as http:
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
async def test_node_client_paginates_to_the_end(node_results: dict[str, Any], slow: OpenServer) -> None:
    async with official_client(slow.url) as client:
        pages = [page async for page in async_paginate(client.predictions.async_list)]
    assert [[each["id"] for each in page] for page in node_results["pages"]] == [
        [prediction.id for prediction in page.results] for page in pages
    ]
    assert {each["status"] for page in node_results["pages"] for each in page} <= TERMINAL


@needs_node
async def test_node_client_receives_the_text_unchanged(node_results: dict[str, Any]) -> None:
    spoken = node_results["spoken"]
    assert output_text(spoken["events"]) == "".join(spoken["output"]) == "".join(spoken["stored"]) == SPOKEN


async def test_python_client_receives_the_text_unchanged(speaking: OpenServer) -> None:
    async with official_client(speaking.url) as client:
        live = [event async for event in await client.async_stream(TINY, input=GIVEN)]
        prediction = (await client.predictions.async_list()).results[0]
        replayed = await run_in_thread(lambda: list(prediction.stream()))
    for events in (live, replayed):
        assert "".join(event.data for event in events if event.event.value == "output") == SPOKEN
        assert (events[-1].event.value, events[-1].data) == ("done", "{}")
    assert "".join(prediction.output) == SPOKEN


async def test_url_in_the_text_is_text_in_python(speaking: OpenServer) -> None:
    async with official_client(speaking.url) as client:
        streamed = await run_in_thread(lambda: [str(event) for event in client.stream(TINY, input=GIVEN)])
        whole = await run_in_thread(client.run, TINY, input=GIVEN)
    assert "".join(streamed) == "".join(whole) == SPOKEN
    assert "https://example.com/ is at https:, data: and" in SPOKEN
