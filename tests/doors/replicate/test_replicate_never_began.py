"""Predictions that were canceled in the queue, and their status in the API."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.doors.replicate.replicate_client import PLAIN, TINY, create, get, official_client, poll_until, run_in_thread
from tests.receiver import receiving
from tests.server.harness import ServerHarness

pytestmark = pytest.mark.anyio

SLOW: dict[str, Any] = {"step_s": 0.02, "kv_blocks": 16, "kv_block_tokens": 32}
"""KV cache for one run, so that the next one queues."""
ENDLESS: dict[str, Any] = {"prompt": "Hi", **PLAIN, "seed": 5, "max_tokens": 400}


async def test_python_client_lists_predictions_canceled_in_the_queue(tmp_path: Path) -> None:
    async with (
        ServerHarness.create(tmp_path).server(**SLOW) as server,
        official_client(server.url) as client,
    ):
        running = await run_in_thread(client.predictions.create, model=TINY, input=ENDLESS)
        waiting = await run_in_thread(client.predictions.create, model=TINY, input=ENDLESS)
        await run_in_thread(waiting.cancel)
        listed = (await run_in_thread(client.predictions.list)).results
        assert (listed[0].id, listed[0].status, listed[0].started_at) == (waiting.id, "canceled", None)
        assert [one.id for one in listed[1:]] == [running.id]
        await run_in_thread(running.cancel)


async def test_aborted_status_setting_applies_to_get_list_and_webhook(tmp_path: Path) -> None:
    harness = replace(ServerHarness.create(tmp_path), more={"replicate_aborted_status": True})
    async with receiving() as post, harness.server(**SLOW) as server, server.http() as http:
        running = await create(http, **ENDLESS)
        await poll_until(http, running, "processing")
        hook = {"webhook": post.url, "webhook_events_filter": ["completed"]}
        answer = await http.post(f"/v1/models/{TINY}/predictions", json={"input": ENDLESS, **hook})
        waiting = (await http.post(answer.json()["urls"]["cancel"])).json()
        assert waiting["status"] == "aborted"
        assert (await get(http, waiting))["status"] == "aborted"
        assert (await post.until(1))[0].json()["status"] == "aborted"
        assert (await http.post(running["urls"]["cancel"])).json()["status"] == "canceled"
        listed = (await http.get("/v1/predictions")).json()["results"]
        assert [one["status"] for one in listed] == ["aborted", "canceled"]
        async with official_client(server.url) as client:
            with pytest.raises(ValueError, match="status"):  # the reason why the setting is off by default
                await run_in_thread(client.predictions.list)
