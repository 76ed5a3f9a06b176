"""Inference with a webhook: immediate response, result delivered to the webhook."""

import pytest
from httpx2 import AsyncClient

from corral.bootstrap import Server
from tests.doors.deepinfra.native import HELLO, PATH, infer
from tests.doors.live_server import SECRET
from tests.receiver import answer, receiving

pytestmark = pytest.mark.anyio

NOTHING = {"status": "queued", "runtime_ms": 0, "cost": 0, "tokens_generated": 0, "tokens_input": 0}


async def test_webhook_is_retried_until_accepted(http: AsyncClient) -> None:
    asked = {"input": "[INST] Tell me a joke [/INST]", "num_responses": 2, "stop": ["no such text", "fail the"]}
    whole = await infer(http, **asked)
    async with receiving() as receiver:
        receiver.answers = [answer(500), answer(500), answer(200)]
        queued = await infer(http, **asked, webhook=f"{receiver.url}/hook")
        assert queued["results"] == []
        assert queued["inference_status"] == NOTHING
        posts = await receiver.until(3)
    bodies = [post.json() for post in posts]
    assert bodies[0] == bodies[1] == bodies[2]
    told = bodies[0]
    assert told["request_id"] == queued["request_id"]
    assert told["results"] == whole["results"]
    assert told["results"][0]["generated_text"].endswith("fail the")
    assert told["inference_status"].pop("runtime_ms") > 0
    del whole["inference_status"]["runtime_ms"]
    assert told["inference_status"] == whole["inference_status"]
    assert posts[0].line.startswith("POST /hook ")
    assert {"webhook-id", "webhook-timestamp", "webhook-signature"} <= posts[0].headers.keys()


async def test_failed_inference_sends_a_failed_webhook(http: AsyncClient, built_server: Server) -> None:
    caller = await built_server.account_services.keys.authenticate(SECRET)
    assert caller is not None
    async with receiving() as receiver:
        body = {**HELLO, "webhook": receiver.url, "response_format": {"type": "regex", "regex": "[ab]{500}"}}
        response = await http.post(PATH, json=body)
        assert response.status_code == 200, response.text
        await built_server.predictions.cancel(caller, response.headers["corral-prediction"])
        (post,) = await receiver.until(1)
    told = post.json()
    assert told["request_id"] == response.json()["request_id"]
    assert told["inference_status"]["status"] == "failed"
    assert told["results"] == []
    assert told["error"]


async def test_webhook_with_stream_or_invalid_url_is_rejected(http: AsyncClient) -> None:
    together = await http.post(PATH, json={**HELLO, "webhook": "http://127.0.0.1:9", "stream": True})
    assert together.status_code == 422
    assert together.json()["detail"][0]["loc"] == ["body", "webhook"]
    none = await http.post(PATH, json={**HELLO, "webhook": "ftp://example.org"})
    assert none.status_code == 400
    assert none.json()["error"]
