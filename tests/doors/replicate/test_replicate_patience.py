"""Keep-alive, client retries, webhook delivery and retention, with short times."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from replicate.exceptions import ReplicateError

from corral import bootstrap
from corral.api.dependencies import Dependencies
from corral.core.webhooks import DeliveryState
from corral.service.runs import background
from corral.service.webhooks.delivery import Deliverer, DeliveryPolicy
from tests.doors.replicate.node_client import node
from tests.doors.replicate.replicate_client import PLAIN, TINY, create, get, official_client, read_stream, run_in_thread
from tests.official_validators import check, needs_node, node_says
from tests.receiver import answer, receiving
from tests.server.harness import ServerHarness
from tests.unit.service.webhook_harness import ended

pytestmark = pytest.mark.anyio

SLOW = 0.02
"""Seconds per engine step."""
GIVEN: dict[str, Any] = {"prompt": "Hi", **PLAIN, "seed": 5}
ENDLESS: dict[str, Any] = {**GIVEN, "max_tokens": 400}
FEW_BLOCKS: dict[str, Any] = {"kv_blocks": 13, "kv_block_tokens": 32}
"""KV cache for exactly one ENDLESS run."""
POST_PATH = f"/v1/models/{TINY}/predictions"


@contextmanager
def replace_attributes(owner: object, **parts: Any) -> Iterator[None]:
    """Replace attributes of *owner* while the block is active."""
    with pytest.MonkeyPatch.context() as patch:
        for name, part in parts.items():
            patch.setattr(owner, name, part)
        yield


class CountingTransport(httpx.HTTPTransport):
    """Transport below the client's retries; records the status codes."""

    def __init__(self) -> None:
        super().__init__()
        self.statuses: list[int] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = super().handle_request(request)
        self.statuses.append(response.status_code)
        return response

    async def aclose(self) -> None:
        """Required by the async client, which sends nothing."""


async def test_keep_alive_comments_prevent_a_client_read_timeout(tmp_path: Path) -> None:
    few = {**GIVEN, "max_tokens": 3}
    impatient = httpx.Timeout(5, read=0.5)
    with replace_attributes(bootstrap, Dependencies=partial(Dependencies, ping_s=0.1)):
        async with ServerHarness.create(tmp_path).server(step_s=SLOW, **FEW_BLOCKS) as server, server.http() as http:
            running, waiting = await create(http, **ENDLESS), await create(http, **few)
            async with http.stream("GET", waiting["urls"]["stream"]) as stream:
                lines = stream.aiter_lines()
                heard = [line for _ in range(6) if (line := await anext(lines))]
            async with official_client(server.url, timeout=impatient) as client, asyncio.TaskGroup() as tasks:
                events = tasks.create_task(
                    run_in_thread(lambda: [event.event.value for event in client.stream(TINY, input=few)])
                )
                await asyncio.sleep(1.2)
                assert not events.done()
                await http.post(running["urls"]["cancel"])
    assert heard == [": queue position 1", ": ping", ": ping"]
    assert set(events.result()[:-1]) == {"output"}
    assert events.result()[-1] == "done"


async def test_without_keep_alive_comments_the_client_times_out(tmp_path: Path) -> None:
    async with ServerHarness.create(tmp_path).server(step_s=SLOW, **FEW_BLOCKS) as server, server.http() as http:
        await create(http, **ENDLESS)
        waiting = await create(http, **ENDLESS)
        async with official_client(server.url, timeout=httpx.Timeout(5, read=0.5)) as client:
            prediction = await client.predictions.async_get(waiting["id"])
            with pytest.raises(httpx.ReadTimeout):
                await run_in_thread(lambda: list(prediction.stream()))


async def test_a_post_with_a_wrong_key_is_sent_once(tmp_path: Path) -> None:
    counting = CountingTransport()
    async with (
        ServerHarness.create(tmp_path).server() as server,
        official_client(server.url, api_token="wrong", transport=counting) as client,
    ):
        with pytest.raises(ReplicateError) as caught:
            await run_in_thread(client.models.predictions.create, TINY, input=GIVEN)
    assert (caught.value.status, counting.statuses) == (401, [401])


async def test_python_client_get_honours_retry_after(tmp_path: Path) -> None:
    harness, counting = ServerHarness.create(tmp_path), CountingTransport()
    async with harness.books() as books:
        _, secret = await books.open_account()
    with replace_attributes(ServerHarness, choices={**harness.choices, "replicate_requests_per_minute": 30}):
        async with harness.server() as server, server.http(key=secret) as http:
            body = await create(http, prefer="wait", **GIVEN, max_tokens=1)
            async with official_client(server.url, api_token=secret, transport=counting) as client:
                while (await http.get("/v1/account")).status_code == 200:
                    pass
                found = await run_in_thread(client.predictions.get, body["id"])
    assert found.output == body["output"]
    assert counting.statuses == [429, 200]


@needs_node
async def test_node_client_retries_create_one_prediction(tmp_path: Path) -> None:
    harness = ServerHarness.create(tmp_path)
    async with harness.books() as books:
        _, secret = await books.open_account()
    with replace_attributes(ServerHarness, choices={**harness.choices, "replicate_creates_per_minute": 30}):
        async with harness.server() as server, server.http(key=secret) as http:
            given = {**GIVEN, "max_tokens": 1}
            got = await node("replicate_retries.mjs", key=secret, url=server.url, model=TINY, input=given)
            made = (await http.get("/v1/predictions")).json()["results"]
    assert got["statuses"] == [429, 201]
    assert got["refused"] == 429
    assert [one["id"] for one in made] == [got["id"]]


async def test_output_webhooks_are_throttled_and_the_final_one_is_sent_once(tmp_path: Path) -> None:
    async with receiving() as post, ServerHarness.create(tmp_path).server(step_s=SLOW) as server, server.http() as http:
        events = {"webhook": post.url, "webhook_events_filter": ["start", "output", "logs", "completed"]}
        made = (await http.post(POST_PATH, json={"input": {**GIVEN, "max_tokens": 100}, **events})).json()
        while not post.received or post.received[-1].json()["completed_at"] is None:
            await post.until(len(post.received) + 1)
        whole = await get(http, made)
        secret = (await http.get("/v1/webhooks/default/secret")).json()["key"]
        log = await ended(server.made.webhooks, len(post.received))
    assert {delivery.state for delivery in log} == {DeliveryState.DELIVERED}
    assert len(log) == len(post.received)
    start, *between, completed = post.received
    assert (start.json()["status"], start.json()["output"]) == ("processing", None)
    assert completed.json() == whole
    told = [each.json() for each in between]
    assert {each["status"] for each in told} == {"processing"}
    assert len([each for each in told if each["output"]]) >= 2
    assert any(each["logs"] for each in told)
    assert all(each["output"] == whole["output"][: len(each["output"])] for each in told if each["output"])
    assert min(later.at_s - earlier.at_s for earlier, later in pairwise(between)) >= 0.499
    assert len({each.headers["webhook-id"] for each in post.received}) == len(post.received)
    for each in (start, between[0], completed):
        check(each.headers, each.body, secret)


@needs_node
async def test_webhook_is_retried_after_a_500_with_the_same_id_and_follows_no_redirect(
    tmp_path: Path,
) -> None:
    quick = partial(Deliverer, policy=DeliveryPolicy(retry_delays_s=(0.05,) * 3, poll_s=0.02))
    async with receiving() as post, receiving() as elsewhere:
        post.answers += [answer(500), answer(307, f"Location: {elsewhere.url}")]
        with replace_attributes(bootstrap, Deliverer=quick):
            async with ServerHarness.create(tmp_path).server() as server, server.http() as http:
                told = {"webhook": post.url, "webhook_events_filter": ["completed"]}
                body = {"input": {**GIVEN, "max_tokens": 2}, **told}
                made = (await http.post(POST_PATH, json=body, headers={"prefer": "wait"})).json()
                requests = list(await post.until(3))
                secret = (await http.get("/v1/webhooks/default/secret")).json()["key"]
                (delivery,) = await ended(server.made.webhooks)
    assert delivery.state is DeliveryState.DELIVERED
    assert elsewhere.received == []
    assert len(post.received) == len(requests) == 3
    assert len({each.headers["webhook-id"] for each in requests}) == 1
    assert all(each.json() == made for each in requests)
    said = await asyncio.to_thread(node_says, requests[-1].headers, requests[-1].body, [secret, "whsec_" + "A" * 32])
    assert said == [True, False]


async def test_expired_prediction_has_no_text(tmp_path: Path) -> None:
    harness = ServerHarness.create(tmp_path)
    with (
        replace_attributes(ServerHarness, choices={**harness.choices, "retention_s": 1}),
        replace_attributes(background, PURGE_INTERVAL_S=0.05),
    ):
        async with harness.server() as server, server.http() as http:
            body = await create(http, prefer="wait", **GIVEN, max_tokens=3)
            assert (body["data_removed"], body["input"]["prompt"], body["status"]) == (False, "Hi", "succeeded")
            assert body["output"]
            async with asyncio.timeout(60):
                while not (later := await get(http, body))["data_removed"]:
                    await asyncio.sleep(0.02)
            gone = await read_stream(http, body)
    assert (later["output"], later["input"], later["logs"]) == (None, {}, "")
    assert {name: later[name] for name in ("id", "status", "metrics")} == {
        name: body[name] for name in ("id", "status", "metrics")
    }
    assert gone.status_code == 410
