"""Waits, deadlines, cancels, limits, retention and webhooks with a scripted engine."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from replicate.webhook import Webhooks, WebhookSigningSecret

from tests.doors.replicate.replicate_client import (
    PLAIN,
    TINY,
    create,
    get,
    parse,
    poll_until,
    read_stream,
    scripted_server,
    text_of,
)
from tests.engines import give_up_once_emitting
from tests.receiver import receiving
from tests.server.harness import ServerHarness

pytestmark = pytest.mark.anyio

SLOW = 0.02
"""Seconds per engine step."""
GIVEN: dict[str, Any] = {"prompt": "Hi", **PLAIN, "seed": 5}
LONG: dict[str, Any] = {**GIVEN, "max_tokens": 100}
ENDLESS: dict[str, Any] = {**GIVEN, "max_tokens": 400}


@contextmanager
def override_settings(harness: ServerHarness, **settings: Any) -> Iterator[None]:
    """Start servers with additional *settings* while the block is active."""
    choices = {**harness.choices, **settings}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ServerHarness, "choices", choices)
        yield


async def test_short_wait_returns_starting_without_output(tmp_path: Path) -> None:
    async with scripted_server(tmp_path, step_s=SLOW) as (_, http):
        begun = time.monotonic()
        early = await create(http, prefer="wait=1", **LONG)
        assert time.monotonic() - begun < 1.5
        assert (early["status"], early["output"], early["started_at"]) == ("starting", None, None)
        seen = await poll_until(http, early)
        assert seen[0]["status"] == "processing"
        assert seen[-1]["status"] == "succeeded"


async def test_deadline_cancels_running_and_aborts_queued_predictions(tmp_path: Path) -> None:
    async with scripted_server(tmp_path, step_s=SLOW, kv_blocks=16, kv_block_tokens=32) as (_, http):
        path = f"/v1/models/{TINY}/predictions"
        answers = [
            await http.post(path, json={"input": ENDLESS}, headers={"cancel-after": after}) for after in ("6s", "5s")
        ]
        bodies = [answer.json() for answer in answers]
        ends = [(await poll_until(http, body))[-1] for body in bodies]
        assert [end["status"] for end in ends] == ["canceled", "canceled"]
        assert ends[0]["output"]
        assert (ends[1]["output"], ends[1]["started_at"], ends[1]["metrics"]["predict_time"]) == (None, None, 0)
        assert all(end["deadline"] > end["created_at"] for end in ends)
        events = parse((await read_stream(http, ends[1])).text)
        assert [(event.name, event.data) for event in events] == [("done", '{"reason":"canceled"}')]
        refused = await http.post(path, json={"input": ENDLESS}, headers={"cancel-after": "4s"})
        assert refused.status_code == 422


async def test_queued_prediction_is_canceled_at_once_and_its_stream_kept_alive(tmp_path: Path) -> None:
    async with scripted_server(tmp_path, step_s=SLOW, kv_blocks=16, kv_block_tokens=32) as (_, http):
        running = await create(http, **ENDLESS)
        waiting = await create(http, **ENDLESS)
        async with http.stream("GET", waiting["urls"]["stream"]) as stream:
            lines = stream.aiter_lines()
            assert await anext(lines) == ": queue position 1"
            canceled = await http.post(waiting["urls"]["cancel"])
            rest = [line async for line in lines]
        assert (canceled.json()["status"], canceled.json()["output"]) == ("canceled", None)
        assert 'data: {"reason":"canceled"}' in rest
        assert (await http.post(running["urls"]["cancel"])).json()["status"] == "canceled"


async def test_client_disconnect_does_not_cancel_a_prediction(tmp_path: Path) -> None:
    async with scripted_server(tmp_path, step_s=SLOW) as (server, http):
        await give_up_once_emitting(server.made.engine, create(http, prefer="wait", **LONG))
        (left,) = (await http.get("/v1/predictions")).json()["results"]
        assert left["status"] == "processing"
        async with http.stream("GET", left["urls"]["stream"]) as stream:
            await anext(stream.aiter_lines())
        assert (await poll_until(http, left))[-1]["status"] == "succeeded"


async def test_creates_beyond_the_rate_limit_are_rejected(tmp_path: Path) -> None:
    harness = ServerHarness.create(tmp_path)
    async with harness.books() as books:
        _, secret = await books.open_account()
    with override_settings(harness, replicate_creates_per_minute=2):
        async with harness.server() as server, server.http(key=secret) as http:
            path = f"/v1/models/{TINY}/predictions"
            answers = [await http.post(path, json={"input": {**GIVEN, "max_tokens": 1}}) for _ in range(4)]
            assert [answer.status_code for answer in answers] == [201, 201, 429, 429]
            assert [answer.headers["ratelimit-remaining"] for answer in answers] == ["1", "0", "0", "0"]
            body = answers[-1].json()
            assert int(answers[-1].headers["retry-after"]) == body["retry_after"] <= 30
            assert body["detail"] == f"Request was throttled. Your rate limit resets in ~{body['retry_after']}s."
            assert len((await http.get("/v1/predictions")).json()["results"]) == 2


async def test_expired_text_is_purged_and_the_prediction_kept(tmp_path: Path) -> None:
    harness = ServerHarness.create(tmp_path)
    async with harness.books() as books:
        _, secret = await books.open_account(privacy=True)
    async with harness.server() as server, server.http(key=secret) as http:
        body = await create(http, prefer="wait", **GIVEN, max_tokens=3)
        assert (body["data_removed"], body["input"], body["output"], body["logs"]) == (True, {}, None, "")
        assert (body["status"], body["metrics"]["output_token_count"]) == ("succeeded", 3)
        gone = await read_stream(http, body)
        assert (gone.status_code, gone.json()["title"]) == (410, "Data removed")
        assert (await get(http, body))["id"] == body["id"]


async def test_webhook_has_the_body_of_get_and_a_valid_signature(tmp_path: Path) -> None:
    harness = ServerHarness.create(tmp_path)
    with override_settings(harness, webhook_allow_networks="127.0.0.0/8"):
        async with receiving() as post, harness.server(step_s=SLOW) as server, server.http() as http:
            events = ["start", "completed"]
            url = post.url.replace("http://", "HTTP://")  # a scheme may be in capitals
            webhook = {"webhook": url, "webhook_events_filter": events}
            answer = await http.post(f"/v1/models/{TINY}/predictions", json={"input": LONG, **webhook})
            assert {name: answer.json()[name] for name in webhook} == webhook
            start, completed = await post.until(2)
            told = start.json()
            assert (told["status"], told["output"], told["completed_at"]) == ("processing", None, None)
            assert completed.json() == await get(http, answer.json())
            key = (await http.get("/v1/webhooks/default/secret")).json()["key"]
            for one in (start, completed):
                Webhooks.validate(headers=one.headers, body=one.body.decode(), secret=WebhookSigningSecret(key=key))


async def test_concurrent_waits_and_cancels_leave_a_consistent_ledger(tmp_path: Path) -> None:
    harness = ServerHarness.create(tmp_path)
    async with harness.books() as books:
        account_id, secret = await books.open_account(10**12)
    async with harness.server(step_s=0.005) as server, server.http(key=secret) as http:
        http.timeout = 60

        async def one(number: int) -> dict[str, Any]:
            given = {**GIVEN, "seed": number + 1, "max_tokens": 60}
            if number % 2:
                body = await create(http, **given)
                return (await http.post(body["urls"]["cancel"])).json()
            return await create(http, prefer="wait", **given)

        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(one(number)) for number in range(100)]
        ends = [task.result()["status"] for task in running]
        assert ends[::2] == ["succeeded"] * 50
        assert set(ends[1::2]) <= {"canceled", "succeeded"}
        assert server.made.engine.stats().running == 0
        await server.books.check(account_id, credit_nusd=10**12)


async def test_stream_resumes_after_a_server_restart(tmp_path: Path) -> None:
    harness = ServerHarness.create(tmp_path)
    async with harness.server(step_s=SLOW) as server, server.http() as http:
        body = await create(http, **LONG)
        url = body["urls"]["stream"].removeprefix(server.url)
        heard: list[Any] = []
        async with http.stream("GET", url) as stream:
            text = ""
            async for part in stream.aiter_text():
                text += part
                heard = parse(text.rpartition("\n\n")[0] + "\n\n")
                if len(heard) > 5:
                    break
    async with harness.server() as server, server.http() as http:
        rest = parse((await http.get(url, headers={"last-event-id": heard[-1].id})).text)
        whole = (await http.get(f"/v1/predictions/{body['id']}")).json()
    assert rest[-1].data == "{}"
    assert text_of(heard) + text_of(rest) == "".join(whole["output"])
