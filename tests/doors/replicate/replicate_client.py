"""Helpers for the Replicate API tests: inputs, clients, polling and an SSE parser."""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from anyio.to_thread import run_sync
from httpx2 import AsyncClient, Response
from replicate.client import Client

from tests.doors.live_server import SECRET
from tests.server.harness import MODEL, OpenServer, ServerHarness

T = TypeVar("T")

CHAT = "meta/llama-2-7b-chat"
TINY = MODEL
PLAIN: dict[str, Any] = {"prompt_template": "{prompt}", "system_prompt": ""}
"""Inputs without the long default system prompt."""
TERMINAL = {"succeeded", "failed", "canceled"}
RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


async def run_in_thread(call: Callable[..., T], *arguments: Any, **named: Any) -> T:
    """Run a blocking client call in a thread."""
    return await run_sync(partial(call, *arguments, **named))


async def close_client(client: Client) -> None:
    """Close the connections of a client, which has no public method for it."""
    blocking, asynchronous = (getattr(client, name) for name in ("_client", "_async_client"))
    blocking.close()
    await asynchronous.aclose()


@asynccontextmanager
async def official_client(url: str, **options: Any) -> AsyncIterator[Client]:
    """Create the official Python client, version 1, for *url*."""
    client = Client(**{"api_token": SECRET, "base_url": url, **options})
    client.poll_interval = 0.02
    try:
        yield client
    finally:
        await close_client(client)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A server-sent event."""

    name: str
    id: str
    data: str

    @property
    def number(self) -> tuple[int, int]:
        """Ordering part of the event id."""
        number, _, characters = self.id.partition(":")[2].partition("-")[0].partition(".")
        return int(number), int(characters or 0)


def parse(text: str) -> list[Event]:
    """Parse server-sent events; skips comments."""
    events: list[Event] = []
    for block in text.split("\n\n"):
        fields: dict[str, list[str]] = {}
        for line in block.split("\n"):
            name, _, value = line.partition(": ")
            if name and not line.startswith(":"):
                fields.setdefault(name.removesuffix(":"), []).append(value)
        if fields:
            events.append(Event(name=fields["event"][0], id=fields["id"][0], data="\n".join(fields["data"])))
    return events


def text_of(events: list[Event]) -> str:
    """Join the output events."""
    return "".join(event.data for event in events if event.name == "output")


def normalize_newlines(text: str) -> str:
    """Normalize line ends, as an SSE parser does."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


async def create(http: AsyncClient, model: str = TINY, *, prefer: str | None = None, **given: Any) -> dict[str, Any]:
    """Create a prediction over HTTP; asserts status 201."""
    headers = {} if prefer is None else {"prefer": prefer}
    answer = await http.post(f"/v1/models/{model}/predictions", json={"input": given}, headers=headers)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def get(http: AsyncClient, prediction: dict[str, Any]) -> dict[str, Any]:
    """Get the current prediction."""
    answer = await http.get(prediction["urls"]["get"])
    assert answer.status_code == 200, answer.text
    return answer.json()


async def poll_until(http: AsyncClient, prediction: dict[str, Any], *statuses: str) -> list[dict[str, Any]]:
    """Poll until the prediction has one of *statuses* (default: a final one); returns every response."""
    seen = [await get(http, prediction)]
    while seen[-1]["status"] not in (statuses or TERMINAL):
        assert not statuses or seen[-1]["status"] not in TERMINAL, seen[-1]
        seen.append(await get(http, prediction))
    return seen


async def read_stream(http: AsyncClient, prediction: dict[str, Any], *, after: str | None = None) -> Response:
    """Read the stream to its end."""
    headers = {} if after is None else {"last-event-id": after}
    return await http.get(prediction["urls"]["stream"], headers=headers)


@asynccontextmanager
async def scripted_server(directory: Path, **script: Any) -> AsyncIterator[tuple[OpenServer, AsyncClient]]:
    """Run a server with a scripted engine; *script* as in ``ScriptedOptions``."""
    async with ServerHarness.create(directory).server(**script) as server, server.http() as http:
        yield server, http
