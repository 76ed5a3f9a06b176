"""``kill -9`` of the server around the end of runs: ``completed`` webhooks are delivered after the next start."""

import asyncio
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest

from corral.core.prediction import Status
from tests.doors.live_server import LiveServer
from tests.official_validators import check
from tests.receiver import receiving
from tests.server.gateway import VICTIM
from tests.server.harness import MODEL, ServerHarness

pytestmark = pytest.mark.anyio

RUNS = 4


async def ask(gateway: LiveServer, secret: str, number: int) -> None:
    """One run that goes on without its client; the last one's end is the server's."""
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Tell me everything."}],
        "max_tokens": 60 if number else 20,
        "user": "bystander" if number else VICTIM,
    }
    with suppress(httpx2.TransportError):
        async with gateway.http(key=secret) as http:
            await http.post("/v1/chat/completions", json=body, headers={"idempotency-key": f"run-{number}"})


@pytest.mark.parametrize("point", ["before_settlement", "after_settlement"])
async def test_completed_webhooks_are_delivered_at_least_once_after_kill_9(tmp_path: Path, point: str) -> None:
    harness = ServerHarness.create(tmp_path)
    async with harness.books() as books:
        account_id, secret = await books.open_account()
    async with receiving() as receiver:
        async with (
            harness.gateway(point=point, webhook_url=receiver.url, step_s=0.01) as gateway,
            asyncio.TaskGroup() as asking,
        ):
            for number in range(RUNS):
                asking.create_task(ask(gateway, secret, number))
            await gateway.wait_killed()
        heard = {each.json()["id"] for each in receiver.received}
        async with harness.books() as books:
            left = {each.id for each in await books.predictions(account_id)}
        assert left > heard
        async with harness.server(step_s=0.001) as server:
            while not left <= {each.json()["id"] for each in receiver.received}:
                await receiver.until(len(receiver.received) + 1, within_s=60)
            signing = await server.made.webhooks.secret(account_id)
            found = {each.id: each for each in await server.books.predictions(account_id)}
    for each in receiver.received:
        check(each.headers, each.body, signing)
        told = each.json()
        assert (told["event"], told["status"]) == ("completed", Status.SUCCEEDED)
        assert told["output"] == found[told["id"]].texts
