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

from tests.doors.replicate.scenes import PLAIN, Event, as_lines, create, parse, read_stream, text_of, until
from tests.server.premises import MODEL, Gateway, Premises

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

SEED = int(os.environ.get("KILL_RUN_SEED", "11"))
LASTS_S = 50 if os.environ.get("CI") == "true" else 5
"""How long gateways are killed, on each database."""
READERS = 10
FOREGROUND = 2
STEP_S = 0.01
RETRY_S = 0.02


@dataclass(slots=True)
class Reading:
    """One acknowledged prediction, and the events of its stream so far."""

    given: dict[str, Any]
    prediction: dict[str, Any]
    heard: list[Event] = field(default_factory=list[Event])
    resumed: int = 0

    @property
    def over(self) -> bool:
        return bool(self.heard) and self.heard[-1].name == "done"


@dataclass(slots=True)
class Clients:
    """All that asks the server, and what came of it."""

    http: AsyncClient
    """At the address where the server is, whenever it is there."""
    readings: list[Reading] = field(default_factory=list[Reading])
    ids_by_key: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    stopping: bool = False
    _events: int = 0
    _more: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def count(self, events: int) -> None:
        """Tell that readers received *events* more."""
        async with self._more:
            self._events += events
            self._more.notify_all()

    async def more_events(self, number: int) -> None:
        """Return when readers have received *number* events from now on."""
        async with self._more:
            enough = self._events + number
            await self._more.wait_for(lambda: self._events >= enough)


def given(number: int) -> dict[str, Any]:
    """Input of a run: every other one is greedy, the rest are drawn with a seed; 100 to 500 tokens long."""
    sampling = {"temperature": 0} if number % 2 else {"temperature": 1, "seed": number + 1}
    return {"prompt": f"Tell me of llama {number}.", **PLAIN, "max_tokens": 100 + 37 * number % 400, **sampling}


async def create_through_kills(clients: Clients, number: int) -> Reading:
    """Ask for a prediction until a server acknowledges it, under one idempotency key."""
    key = f"run-{number}"
    while True:
        with suppress(httpx2.TransportError):
            path, body = f"/v1/models/{MODEL}/predictions", {"input": given(number)}
            answer = await clients.http.post(path, json=body, headers={"idempotency-key": key})
            if answer.status_code == 201:
                clients.ids_by_key.setdefault(key, set()).add(answer.json()["id"])
                return Reading(given=given(number), prediction=answer.json())
            assert answer.status_code == 503, answer.text
        await asyncio.sleep(RETRY_S)


async def read_through_kills(clients: Clients, reading: Reading) -> None:
    """Read the stream to ``done``: whenever it breaks, connect again as soon as there is a server."""
    while True:
        before = len(reading.heard)
        with suppress(httpx2.TransportError):
            await read(clients, reading)
        if reading.over:
            return
        reading.resumed += len(reading.heard) > before
        await asyncio.sleep(RETRY_S)


async def read(clients: Clients, reading: Reading) -> None:
    """Read whole events as a browser's EventSource does; fail at the first that the reader has already."""
    headers = {"last-event-id": reading.heard[-1].id} if reading.heard else {}
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
                assert not reading.heard or event.number > reading.heard[-1].number, (reading.heard[-1], event)
                reading.heard.append(event)
            await clients.count(len(events))


async def one_reader_after_another(clients: Clients, index: int) -> None:
    """Create a prediction, read it to its end, and begin again until the killing is over."""
    number = index
    while not clients.stopping:
        reading = await create_through_kills(clients, number)
        clients.readings.append(reading)
        await read_through_kills(clients, reading)
        number += READERS


async def foreground_calls(clients: Clients) -> None:
    """Calls without an idempotency key: a kill ends them, and they are billed for what was stored of them."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Go on."}], "max_tokens": 300, "stream": True}
    while not clients.stopping:
        with suppress(httpx2.TransportError):
            await clients.http.post("/v1/chat/completions", json=body)
        await asyncio.sleep(RETRY_S)


@asynccontextmanager
async def asking(premises: Premises, secret: str) -> AsyncIterator[Clients]:
    """Readers and foreground calls, until they have come to their ends."""
    address, headers = f"http://127.0.0.1:{premises.port}", {"authorization": f"Bearer {secret}"}
    async with (
        AsyncClient(base_url=address, headers=headers, timeout=60) as http,
        asyncio.TaskGroup() as tasks,
    ):
        clients = Clients(http)
        for index in range(READERS):
            tasks.create_task(one_reader_after_another(clients, index))
        for _ in range(FOREGROUND):
            tasks.create_task(foreground_calls(clients))
        yield clients


async def one_life(premises: Premises, clients: Clients, dice: random.Random, *, with_worker: bool) -> None:
    """Start a server, and kill its worker or not, and its gateway."""
    async with premises.gateway(step_s=STEP_S) as gateway:
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


async def check_reading(http: AsyncClient, reading: Reading) -> None:
    """The prediction succeeded, its reader has its text, and the same input gives that text where nobody is killed.

    A reader who comes back to any of its events after the end gets the rest and no more.
    """
    end = (await http.get(f"/v1/predictions/{reading.prediction['id']}")).json()
    assert (end["status"], end["metrics"]["output_token_count"]) == ("succeeded", reading.given["max_tokens"])
    text = "".join(end["output"])
    assert as_lines(text_of(reading.heard)) == as_lines(text)
    half = reading.heard[: len(reading.heard) // 2]
    rest = parse((await read_stream(http, reading.prediction, after=half[-1].id)).text)
    assert as_lines(text_of([*half, *rest])) == as_lines(text)
    undisturbed = (await until(http, await create(http, prefer="wait", **reading.given)))[-1]
    assert "".join(undisturbed["output"]) == text


async def check_readings(http: AsyncClient, readings: list[Reading]) -> None:
    """Twenty at a time."""
    for first in range(0, len(readings), 20):
        await asyncio.gather(*(check_reading(http, reading) for reading in readings[first : first + 20]))


async def reconcile(premises: Premises) -> tuple[int, str]:
    """Exit status and output of ``corral reconcile``."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CORRAL_")}
    settings = {f"CORRAL_{name.upper()}": str(value) for name, value in premises.choices.items()}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "corral", "reconcile"),
        env={**inherited, **settings},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode().strip()


async def check_kill_run(premises: Premises) -> None:
    async with premises.books() as books:
        account_id, secret = await books.open_account()
    dice = random.Random(SEED)
    ends_s = time.monotonic() + LASTS_S
    lives = 0
    async with asking(premises, secret) as clients:
        while time.monotonic() < ends_s or lives < 2:
            await one_life(premises, clients, dice, with_worker=lives % 2 == 0)
            lives += 1
        clients.stopping = True
        async with premises.gateway(step_s=0.001) as last:
            while not all(reading.over for reading in clients.readings):
                await clients.more_events(1)
            await check_readings(clients.http, clients.readings)
            await last.kill()
    assert sum(reading.resumed for reading in clients.readings) >= lives
    assert all(len(ids) == 1 for ids in clients.ids_by_key.values())
    async with premises.books() as books:
        kept = {one.id for one in await books.predictions(account_id)}
        assert {reading.prediction["id"] for reading in clients.readings} <= kept
        await books.check(account_id)
    assert await reconcile(premises) == (0, "no difference")


def free_port() -> int:
    """A port that nobody uses, for a server that is started on it again and again."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


async def test_kill_run_on_sqlite(tmp_path: Path) -> None:
    await check_kill_run(replace(Premises.furnish(tmp_path), port=free_port()))


async def test_kill_run_on_postgresql(tmp_path: Path, fresh_postgres_url: str) -> None:
    await check_kill_run(replace(Premises.furnish(tmp_path, fresh_postgres_url), port=free_port()))
