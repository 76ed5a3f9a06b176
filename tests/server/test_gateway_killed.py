"""``kill -9`` of the gateway at the four points that affect billing, and recovery at the next start."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest

from corral.core.generation import Delta
from corral.core.prediction import Prediction, Status, StoppedBy
from corral.service.runs.codec import decode_events
from corral.store.runs import streams
from tests.doors.live_server import LiveServer
from tests.server.gateway import POINTS, VICTIM
from tests.server.harness import MODEL, Books, ServerHarness

pytestmark = pytest.mark.anyio

TOKENS = 150
STEP_S = 0.005
BODY: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "Tell me everything."}],
    "max_tokens": TOKENS,
    "stream": True,
    "temperature": 1,
    "seed": 7,
}


@dataclass(slots=True)
class Client:
    """One streaming request and its result."""

    secret: str
    victim: bool
    key: str | None = None
    prediction: str = ""
    texts: list[str] = field(default_factory=list[str])

    @property
    def text(self) -> str:
        return "".join(self.texts)

    async def ask(self, server: LiveServer) -> None:
        """Read to the end, or until the gateway is killed."""
        headers = {} if self.key is None else {"idempotency-key": self.key}
        body = {**BODY, "user": VICTIM if self.victim else "bystander"}
        self.texts.clear()
        async with (
            server.http(key=self.secret) as http,
            http.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer,
        ):
            assert answer.status_code == 200
            self.prediction = answer.headers["corral-prediction"]
            async for line in answer.aiter_lines():
                if line.startswith("data: {"):
                    chunk = orjson.loads(line.removeprefix("data: "))
                    assert "error" not in chunk, chunk
                    self.texts.append(chunk["choices"][0]["delta"].get("content", ""))

    async def ask_until_killed(self, gateway: LiveServer) -> None:
        with suppress(httpx2.TransportError):
            await self.ask(gateway)


async def logged_tokens(books: Books, prediction_id: str) -> int:
    rows = await books.store.read(lambda c: streams.read_from(c, prediction_id))
    events = [event for row in rows for event in decode_events(row.payload)]
    return sum(len(event.ids) for event in events if isinstance(event, Delta))


async def settled(books: Books, account_id: str) -> dict[str, Prediction]:
    """The account's predictions by their request's key, once all are over."""
    while True:
        found = await books.predictions(account_id)
        if all(one.status.terminal for one in found):
            return {one.id: one for one in found}
        await asyncio.sleep(0.02)


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """Two accounts, their requests, and the point at which the gateway was killed."""

    point: str
    victim: str
    account_id: str
    private_id: str
    clients: dict[str, Client]


async def crash(harness: ServerHarness, point: str, victim: str) -> Crash:
    """Kill a gateway at *point* of the victim's run, when the other runs are on their way."""
    async with harness.books() as books:
        account_id, secret = await books.open_account()
        private_id, private_secret = await books.open_account(privacy=True)
    clients = {
        "foreground": Client(secret, victim == "foreground"),
        "background": Client(secret, victim == "background", key="once"),
        "privacy": Client(private_secret, victim=False, key="once"),
    }
    async with harness.gateway(point=point, step_s=STEP_S) as gateway, asyncio.TaskGroup() as asking:
        others = [client for client in clients.values() if not client.victim]
        for client in others:
            asking.create_task(client.ask_until_killed(gateway))
        while not all(client.prediction for client in others):
            await asyncio.sleep(0.002)
        asking.create_task(clients[victim].ask_until_killed(gateway))
        await gateway.wait_killed()
    return Crash(point=point, victim=victim, account_id=account_id, private_id=private_id, clients=clients)


async def check_foreground(books: Books, foreground: Prediction, crash: Crash) -> None:
    """Settled for what was logged of it, unless it was settled before."""
    here = crash.point if crash.victim == "foreground" else None
    if here == "after_settlement":
        assert foreground.status is Status.SUCCEEDED
    if foreground.status is Status.SUCCEEDED:
        assert foreground.completion_tokens == TOKENS
        return
    assert (foreground.status, foreground.stopped_by) == (Status.FAILED, StoppedBy.RESTART)
    assert foreground.completion_tokens == await logged_tokens(books, foreground.id)
    if here == "after_hold":
        assert foreground.cost_nusd == 0
    if here == "mid_stream":
        assert 0 < foreground.completion_tokens < TOKENS


async def check_after_restart(harness: ServerHarness, crash: Crash) -> None:
    """Assert that every unfinished run was completed or settled."""
    async with harness.server() as server:
        undisturbed = Client(crash.clients["background"].secret, victim=False)
        await undisturbed.ask(server)
        heard = [crash.clients[name].text for name in ("foreground", "background")]
        assert all(undisturbed.text.startswith(text) for text in heard)
        again = crash.clients["background"]
        await again.ask(server)
        assert again.text == undisturbed.text
        found = await settled(server.books, crash.account_id)
        background = found.pop(again.prediction)
        assert (background.status, background.completion_tokens) == (Status.SUCCEEDED, TOKENS)
        assert background.texts == [undisturbed.text]
        del found[undisturbed.prediction]
        (foreground,) = found.values()  # held once, whether or not its client ever heard of it
        await check_foreground(server.books, foreground, crash)
        (private,) = (await settled(server.books, crash.private_id)).values()
        assert (private.input, private.output) == (None, None)
        assert await logged_tokens(server.books, private.id) == 0


async def check_crash(harness: ServerHarness, point: str, victim: str) -> None:
    crashed = await crash(harness, point, victim)
    await check_after_restart(harness, crashed)
    async with harness.books() as books:
        await books.check(crashed.account_id)
        await books.check(crashed.private_id)


@pytest.mark.parametrize("victim", ["foreground", "background"])
@pytest.mark.parametrize("point", POINTS)
async def test_after_kill_9_every_run_is_settled_and_the_books_agree(tmp_path: Path, point: str, victim: str) -> None:
    await check_crash(ServerHarness.create(tmp_path), point, victim)


@pytest.mark.parametrize(("point", "victim"), [("mid_stream", "foreground"), ("before_settlement", "background")])
async def test_after_kill_9_the_books_agree_on_postgresql(
    tmp_path: Path, fresh_postgres_url: str, point: str, victim: str
) -> None:
    await check_crash(ServerHarness.create(tmp_path, fresh_postgres_url), point, victim)
