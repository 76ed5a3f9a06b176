"""``kill -9`` with twenty background predictions: all complete after the restart, and no stream loses a character."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from httpx2 import AsyncClient

from tests.doors.live_server import LiveServer
from tests.doors.replicate.replicate_client import PLAIN, Event, create, normalize_newlines, parse, poll_until, text_of
from tests.official_validators import check
from tests.receiver import Receiver, receiving
from tests.server.harness import MODEL, ServerHarness

pytestmark = pytest.mark.anyio

RUNS = 20
TOKENS = 200
STEP_S = 0.03
"""So that a run takes six seconds, and none is over when the server dies."""


def run_input(number: int) -> dict[str, Any]:
    """Input of a run: every other one is greedy, the rest are drawn with a seed."""
    sampling = {"temperature": 0} if number % 2 else {"temperature": 1, "seed": number + 1}
    return {"prompt": f"Tell me of llama {number}.", **PLAIN, "max_tokens": TOKENS, **sampling}


@dataclass(slots=True)
class Reader:
    """Reads one prediction's stream as a browser's EventSource does: whole events, and on from the last one's id."""

    prediction: dict[str, Any]
    heard: list[Event] = field(default_factory=list[Event])

    async def read(self, server: LiveServer) -> None:
        """Read the stream to its end, resuming after the last received event."""
        headers = {"last-event-id": self.heard[-1].id} if self.heard else {}
        path = urlsplit(self.prediction["urls"]["stream"]).path
        pending = ""
        async with server.http(key=None) as http:
            http.timeout = 60
            async with http.stream("GET", path, headers=headers) as answer:
                assert answer.status_code == 200
                async for text in answer.aiter_text():
                    whole, _, pending = (pending + text).rpartition("\n\n")
                    self.heard += parse(whole)

    async def read_until_killed(self, server: LiveServer) -> None:
        with suppress(httpx2.TransportError):
            await self.read(server)


async def create_prediction(http: AsyncClient, number: int, receiver: Receiver) -> Reader:
    """Create a prediction with a ``completed`` webhook; return its reader."""
    body = {"input": run_input(number), "webhook": receiver.url, "webhook_events_filter": ["completed"]}
    answer = await http.post(f"/v1/models/{MODEL}/predictions", json=body)
    assert answer.status_code == 201, answer.text
    return Reader(answer.json())


async def read_until_server_is_killed(harness: ServerHarness, secret: str, receiver: Receiver) -> list[Reader]:
    """Start the readers and kill the server while each is in the middle of its stream."""
    async with harness.gateway(step_s=STEP_S) as gateway, gateway.http(key=secret) as http:
        async with asyncio.TaskGroup() as asking:
            begun = [asking.create_task(create_prediction(http, number, receiver)) for number in range(RUNS)]
        readers = [task.result() for task in begun]
        async with asyncio.TaskGroup() as reading:
            for reader in readers:
                reading.create_task(reader.read_until_killed(gateway))
            while any(len(reader.heard) < 3 for reader in readers):
                await asyncio.sleep(0.01)
            await gateway.kill()
    assert all(reader.heard[-1].name == "output" for reader in readers)
    return readers


async def expected_texts(http: AsyncClient) -> list[str]:
    """Texts of the same inputs without a kill."""
    async with asyncio.TaskGroup() as asking:
        asked = [asking.create_task(create(http, prefer="wait", **run_input(number))) for number in range(RUNS)]
    return ["".join((await poll_until(http, task.result()))[-1]["output"]) for task in asked]


async def completed_webhooks(receiver: Receiver, ids: set[str]) -> dict[str, dict[str, Any]]:
    """Wait for the webhook of every prediction; return the bodies by prediction id."""
    async with asyncio.timeout(60):
        while ids > {one.json()["id"] for one in receiver.received}:
            await receiver.until(len(receiver.received) + 1, within_s=60)
    return {one.json()["id"]: one.json() for one in receiver.received}


async def test_background_runs_survive_kill_9_with_text_streams_and_webhooks(tmp_path: Path) -> None:
    harness = ServerHarness.create(tmp_path)
    async with harness.books() as books:
        account_id, secret = await books.open_account()
    async with receiving() as receiver:
        readers = await read_until_server_is_killed(harness, secret, receiver)
        assert receiver.received == []
        before = [text_of(reader.heard) for reader in readers]
        ids = {reader.prediction["id"] for reader in readers}
        async with harness.books() as books:
            left = await books.predictions(account_id)
        assert {one.id for one in left if not one.status.terminal} == ids
        # Slow enough that readers come back before the new server has computed again what they have.
        async with harness.gateway(step_s=STEP_S) as gateway, gateway.http(key=secret) as http:
            http.timeout = 60
            async with asyncio.TaskGroup() as reading:
                for reader in readers:
                    reading.create_task(reader.read(gateway))
            ends = [(await http.get(f"/v1/predictions/{reader.prediction['id']}")).json() for reader in readers]
            told = await completed_webhooks(receiver, ids)
            signing = (await http.get("/v1/webhooks/default/secret")).json()["key"]
            texts = await expected_texts(http)
    for reader, end, start, text in zip(readers, ends, before, texts, strict=True):
        assert (end["status"], end["metrics"]["output_token_count"]) == ("succeeded", TOKENS)
        assert "".join(end["output"]) == text
        assert normalize_newlines(text).startswith(normalize_newlines(start))
        assert normalize_newlines(text_of(reader.heard)) == normalize_newlines(text)
        assert (reader.heard[-1].name, reader.heard[-1].data) == ("done", "{}")
        numbers = [event.number for event in reader.heard]
        assert numbers == sorted(set(numbers))
        assert (told[end["id"]]["status"], told[end["id"]]["output"]) == ("succeeded", end["output"])
    for one in receiver.received:
        check(one.headers, one.body, signing)
    async with harness.books() as books:
        await books.check(account_id)
