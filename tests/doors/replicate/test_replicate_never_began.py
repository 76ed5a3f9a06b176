"""What was stopped before the engine began, and how it is told."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.doors.replicate.scenes import PLAIN, TINY, create, get, in_thread, official, until
from tests.receiver import receiving
from tests.server.harness import ServerHarness

pytestmark = pytest.mark.anyio

SLOW: dict[str, Any] = {"step_s": 0.02, "kv_blocks": 16, "kv_block_tokens": 32}
"""One run fills the engine, so that the next one waits."""
ENDLESS: dict[str, Any] = {"prompt": "Hi", **PLAIN, "seed": 5, "max_tokens": 400}


async def test_the_python_client_lists_predictions_that_were_canceled_while_they_waited(tmp_path: Path) -> None:
    async with (
        ServerHarness.create(tmp_path).server(**SLOW) as server,
        official(server.url) as client,
    ):
        running = await in_thread(client.predictions.create, model=TINY, input=ENDLESS)
        waiting = await in_thread(client.predictions.create, model=TINY, input=ENDLESS)
        await in_thread(waiting.cancel)
        listed = (await in_thread(client.predictions.list)).results
        assert (listed[0].id, listed[0].status, listed[0].started_at) == (waiting.id, "canceled", None)
        assert [one.id for one in listed[1:]] == [running.id]
        await in_thread(running.cancel)


async def test_the_setting_gives_the_documented_word_in_get_list_and_webhook(tmp_path: Path) -> None:
    harness = replace(ServerHarness.create(tmp_path), more={"replicate_aborted_status": True})
    async with receiving() as post, harness.server(**SLOW) as server, server.http() as http:
        running = await create(http, **ENDLESS)
        await until(http, running, "processing")
        hook = {"webhook": post.url, "webhook_events_filter": ["completed"]}
        answer = await http.post(f"/v1/models/{TINY}/predictions", json={"input": ENDLESS, **hook})
        waiting = (await http.post(answer.json()["urls"]["cancel"])).json()
        assert waiting["status"] == "aborted"
        assert (await get(http, waiting))["status"] == "aborted"
        assert (await post.until(1))[0].json()["status"] == "aborted"
        assert (await http.post(running["urls"]["cancel"])).json()["status"] == "canceled"
        listed = (await http.get("/v1/predictions")).json()["results"]
        assert [one["status"] for one in listed] == ["aborted", "canceled"]
        async with official(server.url) as client:
            with pytest.raises(ValueError, match="status"):  # why it is off unless the operator wants it
                await in_thread(client.predictions.list)
