"""Two minutes of ``kill -9``: gateways and workers die while clients create predictions and resume their streams.

Every life of the server ends by a kill of its gateway, in some after one of its worker. When to kill is drawn from a
seed and counted in events that readers received. ``KILL_RUN_SEED`` repeats a run.
"""

import asyncio
import os
import random
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from httpx2 import AsyncClient

from tests.doors.replicate.replicate_client import (
    PLAIN,
    Event,
    create,
    normalize_newlines,
    parse,
    poll_until,
    read_stream,
    text_of,
)
from tests.server.harness import MODEL, Gateway, ServerHarness

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

SEED = int(os.environ.get("KILL_RUN_SEED", "11"))
LASTS_S = 50 if os.environ.get("CI") == "true" else 5
"""How long gateways are killed, on each database."""
READERS = 10
FOREGROUND = 2
STEP_S = 0.01
RETRY_S = 0.02


@dataclass(slots=True)
class StreamReader:
    """One created prediction and the stream events received so far."""

    run_input: dict[str, Any]
    prediction: dict[str, Any]
    events: list[Event] = field(default_factory=list[Event])
    resumed: int = 0

    @property
    def over(self) -> bool:
        return bool(self.events) and self.events[-1].name == "done"


@dataclass(slots=True)
class Clients:
    """All concurrent clients and their results."""

    http: AsyncClient
    """HTTP client for the server's address, while it is running or restarting."""
    readings: list[StreamReader] = field(default_factory=list[StreamReader])
    ids_by_key: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    stopping: bool = False
    _events: int = 0
    _more: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def count(self, events: int) -> None:
        """Add *events* to the number of received events."""
        async with self._more:
            self._events += events
            self._more.notify_all()

    async def more_events(self, number: int) -> None:
        """Wait until readers have received *number* more events."""
        async with self._more:
            enough = self._events + number
            await self._more.wait_for(lambda: self._events >= enough)


def run_input(number: int) -> dict[str, Any]:
    """Input of a run of 100 to 500 tokens: even numbers sample with a seed, odd numbers are greedy."""
    sampling = {"temperature": 0} if number % 2 else {"temperature": 1, "seed": number + 1}
    return {"prompt": f"Tell me of llama {number}.", **PLAIN, "max_tokens": 100 + 37 * number % 400, **sampling}


async def create_through_kills(clients: Clients, number: int) -> StreamReader:
    """Retry creating a prediction with one idempotency key until a server accepts it."""
    key = f"run-{number}"
    while True:
        with suppress(httpx2.TransportError):
            path, body = f"/v1/models/{MODEL}/predictions", {"input": run_input(number)}
            answer = await clients.http.post(path, json=body, headers={"idempotency-key": key})
            if answer.status_code == 201:
                clients.ids_by_key.setdefault(key, set()).add(answer.json()["id"])
                return StreamReader(run_input=run_input(number), prediction=answer.json())
            assert answer.status_code == 503, answer.text
        await asyncio.sleep(RETRY_S)


async def read_through_kills(clients: Clients, reading: StreamReader) -> None:
    """Read the stream to ``done``, reconnecting whenever it breaks."""
    while True:
        before = len(reading.events)
        with suppress(httpx2.TransportError):
            await read(clients, reading)
        if reading.over:
            return
        reading.resumed += len(reading.events) > before
        await asyncio.sleep(RETRY_S)


async def read(clients: Clients, reading: StreamReader) -> None:
    """Read whole events as a browser's EventSource does; fail at the first that the reader has already."""
    headers = {"last-event-id": reading.events[-1].id} if reading.events else {}
    path = urlsplit(reading.prediction["urls"]["stream"]).path
    pending = ""
    async with clients.http.stream("GET", path, headers=headers) as answer:
        if answer.status_code == 503:
            return
        assert answer.status_code == 200, (answer.status_code, await answer.aread())
        async for text in answer.aiter_text():
            whole, _, pending = (pending + text).rpartition("\n\n")
            for event in (events := parse(whole)):
                assert event.name != "error", event
                assert not reading.events or event.number > reading.events[-1].number, (reading.events[-1], event)
                reading.events.append(event)
            await clients.count(len(events))


async def create_and_read_until_stopped(clients: Clients, index: int) -> None:
    """Create predictions and read each to its end until ``stopping`` is set."""
    number = index
    while not clients.stopping:
        reading = await create_through_kills(clients, number)
        clients.readings.append(reading)
        await read_through_kills(clients, reading)
        number += READERS


async def foreground_calls(clients: Clients) -> None:
    """Send requests without an idempotency key: a kill ends them, and their stored tokens are billed."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Go on."}], "max_tokens": 300, "stream": True}
    while not clients.stopping:
        with suppress(httpx2.TransportError):
            await clients.http.post("/v1/chat/completions", json=body)
        await asyncio.sleep(RETRY_S)


@asynccontextmanager
async def running_clients(harness: ServerHarness, secret: str) -> AsyncIterator[Clients]:
    """Start readers and foreground calls; wait for them when the block ends."""
    address, headers = f"http://127.0.0.1:{harness.port}", {"authorization": f"Bearer {secret}"}
    async with (
        AsyncClient(base_url=address, headers=headers, timeout=60) as http,
        asyncio.TaskGroup() as tasks,
    ):
        clients = Clients(http)
        for index in range(READERS):
            tasks.create_task(create_and_read_until_stopped(clients, index))
        for _ in range(FOREGROUND):
            tasks.create_task(foreground_calls(clients))
        yield clients


async def start_and_kill_gateway(
    harness: ServerHarness, clients: Clients, dice: random.Random, *, with_worker: bool
) -> None:
    """Start a server, optionally kill its worker, then kill the gateway."""
    async with harness.gateway(step_s=STEP_S) as gateway:
        if with_worker:
            await clients.more_events(dice.randrange(5, 200))
            os.kill(worker_of(gateway), signal.SIGKILL)
        await clients.more_events(dice.randrange(5, 400))
        await gateway.kill()


def worker_of(gateway: Gateway) -> int:
    """Process id of the gateway's one child."""
    tasks = Path(f"/proc/{gateway.process.pid}/task")
    (worker,) = {int(pid) for task in tasks.iterdir() for pid in (task / "children").read_text().split()}
    return worker


async def check_reading(http: AsyncClient, reading: StreamReader) -> None:
    """The prediction succeeded, its reader has its text, and the same input gives that text where nobody is killed.

    A reader who comes back to any of its events after the end gets the rest and no more.
    """
    end = (await http.get(f"/v1/predictions/{reading.prediction['id']}")).json()
    assert (end["status"], end["metrics"]["output_token_count"]) == ("succeeded", reading.run_input["max_tokens"])
    text = "".join(end["output"])
    assert normalize_newlines(text_of(reading.events)) == normalize_newlines(text)
    half = reading.events[: len(reading.events) // 2]
    rest = parse((await read_stream(http, reading.prediction, after=half[-1].id)).text)
    assert normalize_newlines(text_of([*half, *rest])) == normalize_newlines(text)
    undisturbed = (await poll_until(http, await create(http, prefer="wait", **reading.run_input)))[-1]
    assert "".join(undisturbed["output"]) == text


async def check_readings(http: AsyncClient, readings: list[StreamReader]) -> None:
    """Twenty at a time."""
    for first in range(0, len(readings), 20):
        await asyncio.gather(*(check_reading(http, reading) for reading in readings[first : first + 20]))


async def reconcile(harness: ServerHarness) -> tuple[int, str]:
    """Exit status and output of ``corral reconcile``."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CORRAL_")}
    settings = {f"CORRAL_{name.upper()}": str(value) for name, value in harness.choices.items()}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "corral", "reconcile"),
        env={**inherited, **settings},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode().strip()


async def check_kill_run(harness: ServerHarness) -> None:
    async with harness.books() as books:
        account_id, secret = await books.open_account()
    dice = random.Random(SEED)
    ends_s = time.monotonic() + LASTS_S
    lives = 0
    async with running_clients(harness, secret) as clients:
        while time.monotonic() < ends_s or lives < 2:
            await start_and_kill_gateway(harness, clients, dice, with_worker=lives % 2 == 0)
            lives += 1
        clients.stopping = True
        async with harness.gateway(step_s=0.001) as last:
            while not all(reading.over for reading in clients.readings):
                await clients.more_events(1)
            await check_readings(clients.http, clients.readings)
            await last.kill()
    assert sum(reading.resumed for reading in clients.readings) >= lives
    assert all(len(ids) == 1 for ids in clients.ids_by_key.values())
    async with harness.books() as books:
        kept = {one.id for one in await books.predictions(account_id)}
        assert {reading.prediction["id"] for reading in clients.readings} <= kept
        await books.check(account_id)
    assert await reconcile(harness) == (0, "no difference")


def free_port() -> int:
    """A free port, for a server that is restarted on it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


async def test_kill_run_on_sqlite(tmp_path: Path) -> None:
    await check_kill_run(replace(ServerHarness.create(tmp_path), port=free_port()))


async def test_kill_run_on_postgresql(tmp_path: Path, fresh_postgres_url: str) -> None:
    await check_kill_run(replace(ServerHarness.create(tmp_path, fresh_postgres_url), port=free_port()))
