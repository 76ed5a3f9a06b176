"""Texts with every line separator that some client splits at: live, replayed and resumed."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
from replicate.client import Client

from tests.doors.replicate.replicate_client import (
    PLAIN,
    TINY,
    Event,
    create,
    get,
    normalize_newlines,
    official_client,
    parse,
    poll_until,
    read_stream,
    run_in_thread,
    text_of,
)
from tests.doors.replicate.test_replicate_words import SEPARATORS
from tests.server.harness import SCRIPT, OpenServer, ServerHarness

pytestmark = pytest.mark.anyio

ENDS = "\v\f\x1c\x1d\x1e\x85\u2028\u2029"
TEXTS = (
    *(f"w{end}" for end in ENDS), *(f"{end}https:x" for end in ENDS), f"a{ENDS}data:b", "c\r", "\nd\r", "\r\ne\r\nf",
    "g\r", "h\n", "i\r\vj\r", "\v\u2028data:", "é\r",
)  # fmt: skip
"""One token each, with separators at the start, middle and end."""
WHOLE = "".join(TEXTS)
GIVEN: dict[str, Any] = {"prompt": "Hi", **PLAIN, "seed": 5, "max_tokens": 400}
STEP_S = 0.01


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[OpenServer]:
    """A server that answers ``TEXTS``."""
    size, first = int(SCRIPT["vocab_size"]), int(SCRIPT["vocab_size"])
    ids = tuple(range(first, first + len(TEXTS)))
    harness = ServerHarness.create(tmp_path, more_pieces=TEXTS)
    async with harness.server(vocab_size=size + len(TEXTS), answer=ids, step_s=STEP_S) as server:
        yield server


async def test_text_is_the_same_live_replayed_and_resumed(server: OpenServer) -> None:
    async with server.http() as http:
        created = await create(http, **GIVEN)
        live = parse((await read_stream(http, created)).text)
        ended = (await poll_until(http, created))[-1]
        assert "".join(ended["output"]) == WHOLE
        after = parse((await read_stream(http, created)).text)
        assert text_of(live) == text_of(after) == normalize_newlines(WHOLE)
        for events in (live, after):
            answers = await asyncio.gather(*(read_stream(http, created, after=event.id) for event in events[:-1]))
            for index, answer in enumerate(answers):
                rest = parse(answer.text)
                assert text_of(rest) == text_of(events[index + 1 :]), events[index]
                assert rest[-1].data == "{}"
                assert all(one.number > events[index].number for one in rest)
    assert len(live) > len(TEXTS)


async def test_reconnecting_reader_loses_no_character(server: OpenServer) -> None:
    async with server.http() as http:
        created = await create(http, **GIVEN)
        heard: list[Event] = []
        while not heard or heard[-1].name != "done":
            headers = {"last-event-id": heard[-1].id} if heard else {}
            async with http.stream("GET", created["urls"]["stream"], headers=headers) as answer:
                text = ""
                async for part in answer.aiter_text():
                    text += part
                    if "\n\n" in text:
                        heard.append(parse(text.partition("\n\n")[0])[0])  # one event per connection
                        break
        assert (
            text_of(heard)
            == normalize_newlines("".join((await get(http, created))["output"]))
            == normalize_newlines(WHOLE)
        )


async def test_clients_that_split_lines_at_separators_lose_only_the_separators(server: OpenServer) -> None:
    expected = SEPARATORS.sub("", normalize_newlines(WHOLE))
    async with official_client(server.url) as client, server.http() as http:
        live = await run_in_thread(_official_live, client)
        asynchronous = [str(event) async for event in await client.async_stream(TINY, input=GIVEN)]
        assert live == "".join(asynchronous) == expected
        (latest, _) = (await run_in_thread(client.predictions.list)).results
        assert "".join(latest.output) == WHOLE
        afterwards = await run_in_thread(lambda: "".join(map(str, latest.stream())))
        assert afterwards == expected
        running = await create(http, **GIVEN)
        url = running["urls"]["stream"]
        by_requests, by_httpx = await asyncio.gather(run_in_thread(_by_requests, url), run_in_thread(_by_httpx, url))
        assert by_requests == by_httpx == expected
        assert (await run_in_thread(_by_requests, url), await run_in_thread(_by_httpx, url)) == (expected, expected)


def _official_live(client: Client) -> str:
    return "".join(map(str, client.stream(TINY, input=GIVEN)))


def _by_requests(url: str) -> str:
    with requests.get(url, stream=True, timeout=60) as answer:
        answer.encoding = "utf-8"
        return _outputs([str(line) for line in answer.iter_lines(decode_unicode=True)])


def _by_httpx(url: str) -> str:
    with httpx.stream("GET", url) as answer:
        return _outputs(list(answer.iter_lines()))


def _outputs(lines: list[str]) -> str:
    """Texts of output events, from the lines of the client."""
    return text_of(parse("\n".join(line for line in lines if line == "" or ": " in line)))
