"""SIGTERM with open requests at every API: each is answered in its API's format, and receipts have the reason."""

import asyncio
import os
import signal
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from httpx2 import AsyncClient, Response

from corral.core.prediction import Status, StoppedBy
from tests.server.harness import MODEL, Gateway, ServerHarness

pytestmark = pytest.mark.anyio

PATIENCE_S = 60
TOKENS = 400
STEP_S = 0.05
"""A run would take 20 seconds."""
MESSAGES = [{"role": "user", "content": "Tell me everything."}]
CHAT: dict[str, Any] = {"model": MODEL, "messages": MESSAGES, "max_tokens": TOKENS}
NATIVE: dict[str, Any] = {"input": "Tell me everything.", "max_new_tokens": TOKENS}
PREDICTION: dict[str, Any] = {"input": {"prompt": "Tell me everything.", "max_tokens": TOKENS}}
PLAIN: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", CHAT),
    "completion": ("/v1/openai/completions", {"model": MODEL, "prompt": "Once", "max_tokens": TOKENS}),
    "native": (f"/v1/inference/{MODEL}", NATIVE),
}
STREAMS = {name: (path, {**body, "stream": True}) for name, (path, body) in PLAIN.items()}


@dataclass(slots=True)
class Stream:
    """A stream that is being read."""

    begun: asyncio.Event = field(default_factory=asyncio.Event)
    received: str = ""

    async def read(self, http: AsyncClient, method: str, path: str, **options: Any) -> None:
        """Read to its end, which must be a proper one."""
        async with http.stream(method, path, **options) as answer:
            assert answer.status_code == 200
            async for text in answer.aiter_text():
                self.received += text
                if "data:" in text:
                    self.begun.set()

    @property
    def last_data(self) -> Any:
        """The last event's data."""
        return orjson.loads(self.received.strip().rpartition("data: ")[2])


async def under_way(http: AsyncClient, count: int) -> None:
    """Wait until *count* predictions are processing."""
    while True:
        listed = (await http.get("/v1/predictions")).json()["results"]
        if sum(one["status"] == "processing" for one in listed) == count:
            return
        await asyncio.sleep(0.02)


async def check_new_requests(http: AsyncClient) -> None:
    """On new connections, too: refused in the words of each path."""
    health = await http.get("/health")
    assert (health.status_code, health.json()["status"]) == (503, "stopping")
    for path, body in PLAIN.values():
        refused = await http.post(path, json=body)
        check_refusal(refused)
        assert refused.headers["connection"] == "close"
    problem = await http.post(f"/v1/models/{MODEL}/predictions", json=PREDICTION)
    check_refusal(problem)
    assert problem.headers["content-type"] == "application/problem+json"


def check_refusal(answer: Response) -> None:
    """503, with a time to come again and a sentence."""
    assert answer.status_code == 503, answer.text
    assert answer.headers["retry-after"] == "5"
    body = answer.json()
    sentence = body["detail"] if "title" in body else body["error"]
    sentence = sentence if isinstance(sentence, str) else sentence["message"]
    assert sentence.startswith("The server ")


@dataclass(slots=True)
class Calls:
    """One request of each kind and its result."""

    plain: dict[str, Response] = field(default_factory=dict[str, Response])
    streams: dict[str, Stream] = field(default_factory=lambda: {name: Stream() for name in [*STREAMS, "replicate"]})
    idempotent: Response | None = None
    waited: Response | None = None
    background_id: str = ""

    async def open(self, http: AsyncClient, tasks: asyncio.TaskGroup) -> None:
        """Begin all of them and return when all are under way."""

        async def ask(name: str, path: str, body: dict[str, Any]) -> None:
            self.plain[name] = await http.post(path, json=body)

        async def ask_once() -> None:
            self.idempotent = await http.post("/v1/chat/completions", json=CHAT, headers={"idempotency-key": "once"})

        async def wait() -> None:
            create = f"/v1/models/{MODEL}/predictions"
            self.waited = await http.post(create, json=PREDICTION, headers={"prefer": "wait"})

        created = (await http.post(f"/v1/models/{MODEL}/predictions", json=PREDICTION)).json()
        self.background_id = created["id"]
        for name, (path, body) in PLAIN.items():
            tasks.create_task(ask(name, path, body))
        for name, (path, body) in STREAMS.items():
            tasks.create_task(self.streams[name].read(http, "POST", path, json=body))
        tasks.create_task(self.streams["replicate"].read(http, "GET", created["urls"]["stream"]))
        tasks.create_task(ask_once())
        tasks.create_task(wait())
        await under_way(http, len(PLAIN) + len(STREAMS) + 3)
        for stream in self.streams.values():
            await stream.begun.wait()

    def check(self) -> None:
        """Assert that every request was answered in its API's format."""
        for answer in self.plain.values():
            check_refusal(answer)
        assert self.plain["chat"].json()["error"]["code"] == "server_stopping"
        assert self.idempotent is not None
        check_refusal(self.idempotent)
        assert "goes on" in self.idempotent.json()["error"]["message"]
        assert self.waited is not None
        assert (self.waited.status_code, self.waited.json()["status"]) == (201, "starting")
        for name in ("chat", "completion"):
            assert self.streams[name].last_data["error"]["code"] == "server_stopping"
            assert "[DONE]" not in self.streams[name].received
        assert self.streams["native"].last_data["error_type"] == "generation_error"
        assert "goes on" in self.streams["replicate"].last_data["detail"]
        assert "event: done" not in self.streams["replicate"].received


async def stop_with_calls_open(gateway: Gateway, secret: str) -> Calls:
    """Send SIGTERM when calls of every kind are under way; return when the server has ended."""
    calls = Calls()
    async with gateway.http(key=secret) as http, gateway.http(key=secret) as late, asyncio.timeout(PATIENCE_S):
        http.timeout = PATIENCE_S
        async with asyncio.TaskGroup() as tasks:
            await calls.open(http, tasks)
            os.kill(gateway.process.pid, signal.SIGTERM)
            while (await late.get("/health")).status_code != 503:
                await asyncio.sleep(0.01)
            await check_new_requests(late)
        assert await gateway.process.wait() == 0
    return calls


async def test_shutdown_answers_open_requests_and_background_runs_resume_after_restart(tmp_path: Path) -> None:
    harness = replace(ServerHarness.create(tmp_path), more={"stop_grace_s": 1})
    async with harness.books() as books:
        account_id, secret = await books.open_account()
    log = tmp_path / "log"
    async with harness.gateway(step_s=STEP_S, log=log) as gateway:
        calls = await stop_with_calls_open(gateway, secret)
    calls.check()
    lines = log.read_text().splitlines()
    assert [line for line in lines if "Traceback" in line or "level=error" in line] == []
    assert len([line for line in lines if "server_stopping" in line]) == 1, lines
    async with harness.books() as books:
        made = await books.predictions(account_id)
        ended = [one for one in made if one.status.terminal]
        assert len(ended) == len(PLAIN) + len(STREAMS)
        for one in ended:
            assert (one.status, one.stopped_by) == (Status.CANCELED, StoppedBy.RESTART)
            assert one.receipt is not None
            assert one.receipt["stopped_by"] == "restart"
        assert await books.usage.reconcile() == []
    async with harness.server() as server, server.http(key=secret) as http, asyncio.timeout(PATIENCE_S):
        again = await http.post("/v1/chat/completions", json=CHAT, headers={"idempotency-key": "once"})
        assert again.json()["usage"]["completion_tokens"] == TOKENS
        while (await http.get(f"/v1/predictions/{calls.background_id}")).json()["status"] != "succeeded":
            await asyncio.sleep(0.02)


async def test_shutdown_without_open_requests_is_immediate(tmp_path: Path) -> None:
    harness = replace(ServerHarness.create(tmp_path), more={"stop_grace_s": 3600})
    log = tmp_path / "log"
    async with harness.gateway(log=log) as gateway, gateway.http() as http:
        assert (await http.get("/health")).status_code == 200  # its connection stays open
        gateway.process.send_signal(signal.SIGINT)
        assert await gateway.process.wait() == 0
    (line,) = [line for line in log.read_text().splitlines() if line]
    assert "server_stopping" in line


async def test_second_ctrl_c_does_not_wait_for_open_requests(tmp_path: Path) -> None:
    harness = replace(ServerHarness.create(tmp_path), more={"stop_grace_s": 3600})
    async with harness.gateway(step_s=STEP_S, log=tmp_path / "log") as gateway, gateway.http() as http:
        stream = Stream()
        reading = asyncio.ensure_future(stream.read(http, "POST", *STREAMS["chat"][:1], json=STREAMS["chat"][1]))
        await stream.begun.wait()
        for _ in range(2):
            gateway.process.send_signal(signal.SIGINT)
            await asyncio.sleep(0.3)  # two signals at once are one
        assert await gateway.process.wait() == 0
        await reading
    assert stream.last_data["error"]["code"] == "server_stopping"
    assert "Traceback" not in (tmp_path / "log").read_text()
