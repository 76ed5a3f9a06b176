"""Raw HTTP of the Replicate API, compared with the transcripts in ``golden/``.

These tests write the transcripts. After an intended change of the API, rewrite them and review the diff::

    REWRITE_GOLDEN=1 .venv/bin/pytest tests/doors/replicate/test_replicate_golden.py
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.doors.live_server import SECRET
from tests.doors.replicate.replicate_client import PLAIN, TINY, poll_until
from tests.doors.replicate.transcript import Connection, Transcript, joined, request_of
from tests.receiver import receiving
from tests.server.harness import OpenServer, ServerHarness

pytestmark = pytest.mark.anyio

GOLDEN = Path(__file__).parent / "golden"
CREATE = f"POST /v1/models/{TINY}/predictions"
INPUT: dict[str, Any] = {"prompt": "What do llamas eat?", **PLAIN, "temperature": 0, "seed": 5}
FIRST_BYTE_ID = 3
"""Token id of byte 0."""
SHORT, LONG = "Hay.\nGrass!", "Hay and grass. " * 30
STEP_S = 0.04


@asynccontextmanager
async def server_answering(directory: Path, text: str) -> AsyncIterator[tuple[OpenServer, Transcript]]:
    """Run a server that answers *text*, one character per step."""
    answer = [FIRST_BYTE_ID + byte for byte in text.encode()]
    async with ServerHarness.create(directory).server(answer=answer, step_s=STEP_S) as server:
        yield server, Transcript(server.port)


async def wait_until_finished(server: OpenServer, prediction: dict[str, Any]) -> None:
    """Wait for the final status."""
    async with server.http(key=SECRET) as http:
        await poll_until(http, prediction)


def path_of(url: str) -> str:
    """Path and query of a URL."""
    return "/" + url.split("/", 3)[3]


def assert_matches_golden(name: str, transcript: str) -> None:
    """Compare with the golden file, or rewrite it."""
    kept = GOLDEN / f"{name}.http"
    if os.environ.get("REWRITE_GOLDEN") == "1":
        kept.write_text(transcript)
    assert joined(transcript) == joined(kept.read_text())


async def test_create_and_get_match_the_golden_transcript(tmp_path: Path) -> None:
    async with server_answering(tmp_path, SHORT) as (server, script):
        created = await script.exchange("Create", CREATE, body={"input": INPUT})
        await wait_until_finished(server, created)
        await script.exchange("Get it when it is over", f"GET {path_of(created['urls']['get'])}")
        wrong = {"input": {"temperature": "hot"}, "model": "x"}
        await script.exchange("An unknown key", CREATE, body=wrong)
        await script.exchange("Wrong input", CREATE, body={"input": wrong["input"]})
        await script.exchange("No key", CREATE, body={"input": INPUT}, key=None)
        assert_matches_golden("create", script.text())


async def test_wait_matches_the_golden_transcript(tmp_path: Path) -> None:
    async with server_answering(tmp_path, SHORT) as (_, script):
        body = {"version": TINY, "input": INPUT}
        await script.exchange("Long enough", "POST /v1/predictions", "prefer: wait", body=body)
        assert_matches_golden("wait", script.text())


async def test_expired_wait_matches_the_golden_transcript(tmp_path: Path) -> None:
    async with server_answering(tmp_path, LONG) as (_, script):
        await script.exchange("Too short", CREATE, "prefer: wait=1", body={"input": INPUT})
        assert_matches_golden("wait_expired", script.text())


async def test_stream_matches_the_golden_transcript(tmp_path: Path) -> None:
    async with server_answering(tmp_path, SHORT) as (server, script):
        created = await script.exchange("Create", CREATE, body={"input": INPUT, "stream": True})
        stream, accept = f"GET {path_of(created['urls']['stream'])}", "accept: text/event-stream"
        live = await script.exchange("Read it while it runs; the address needs no key", stream, accept, key=None)
        await wait_until_finished(server, created)
        second, _, last = live.rpartition("id: ")[2].split("\n")[0].partition(":")
        for title, number in (("Come again with the id of the fourth character", "20"), ("With the last one", last)):
            await script.exchange(title, stream, accept, f"last-event-id: {second}:{number}", key=None)
        assert_matches_golden("stream", script.text())


async def test_cancel_matches_the_golden_transcript(tmp_path: Path) -> None:
    async with server_answering(tmp_path, LONG) as (server, script):
        created = await script.exchange("Create", CREATE, body={"input": INPUT})
        request = request_of(server.port, f"GET {path_of(created['urls']['stream'])}", key=None)
        async with Connection(server.port) as reading:
            await reading.send(request)
            await reading.read_until(b"event: output")
            await script.exchange("Cancel it", f"POST {path_of(created['urls']['cancel'])}")
            script.write("What a reader of its stream was told meanwhile", request, await reading.rest())
        await script.exchange("Cancel it again", f"POST {path_of(created['urls']['cancel'])}")
        assert_matches_golden("cancel", script.text(partial=True))


async def test_webhooks_match_the_golden_transcript(tmp_path: Path) -> None:
    async with receiving() as receiver, server_answering(tmp_path, SHORT) as (_, script):
        body = {"input": INPUT, "webhook": receiver.url, "webhook_events_filter": ["start", "completed"]}
        await script.exchange("Create", CREATE, body=body)
        started, completed = await receiver.until(2)
        script.receive("What the receiver is sent at the start", started)
        script.receive("And at the end", completed)
        receiver_at = receiver.url.removeprefix("http://")
        assert_matches_golden("webhook", script.text(receiver=receiver_at))
