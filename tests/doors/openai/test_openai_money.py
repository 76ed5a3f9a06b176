"""Scopes, idempotency keys, cost limits and estimates of the OpenAI API."""

import json
import re
from typing import Any

import openai
import pytest
from httpx2 import Response

from corral.core.errors import InsufficientCredit, Overloaded, RateLimited
from corral.core.pricing import usd
from tests.doors.known_keys import ONE_MODEL, READ_ONLY, RUN_ONLY
from tests.doors.live_server import SECRET, LiveServer
from tests.doors.scripted_predictions import MODEL, ScriptedPredictions, answer

USER = [{"role": "user", "content": "Hello!"}]
CHAT: dict[str, Any] = {"model": MODEL, "messages": USER}
OTHER_MODEL = "meta/llama-2-7b-chat"


async def post(
    server: LiveServer, body: object, *, path: str = "/v1/chat/completions", key: str = SECRET, **headers: str
) -> Response:
    async with server.http(key=key) as http:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await http.post(path, content=json.dumps(body), headers=named)


def _id_and_text(response: Response) -> tuple[str, str]:
    """Id and text of a chat, independent of chunk boundaries."""
    (answer_id,) = set(re.findall(r'"id":"(chatcmpl-[0-9a-f]{32})"', response.text))
    return answer_id, "".join(re.findall(r'"content":"([^"]*)"', response.text))


@pytest.mark.anyio
async def test_key_scopes_are_enforced(server: LiveServer, predictions: ScriptedPredictions) -> None:
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/estimate"):
        response = await post(server, CHAT, path=path, key=READ_ONLY)
        assert response.status_code == 403
        assert response.json()["error"]["code"] == "permission_denied"
    assert predictions.asks == []
    async with server.http(key=RUN_ONLY) as http:
        assert (await http.get("/v1/models")).status_code == 200
        assert (await http.get(f"/v1/models/{MODEL}")).status_code == 200
    async with server.http(key=READ_ONLY) as http:
        assert (await http.get("/v1/models")).status_code == 200
    assert (await post(server, CHAT, key=RUN_ONLY)).status_code == 200


@pytest.mark.anyio
async def test_key_limited_to_a_model_cannot_use_or_list_another(server: LiveServer) -> None:
    async with server.openai(api_key=ONE_MODEL) as client:
        assert [model.id async for model in client.models.list()] == [MODEL]
        with pytest.raises(openai.PermissionDeniedError):
            await client.models.retrieve(OTHER_MODEL)
        with pytest.raises(openai.PermissionDeniedError) as caught:
            await client.chat.completions.create(model=OTHER_MODEL, messages=USER)
        assert OTHER_MODEL in caught.value.message
        await client.chat.completions.create(model=MODEL, messages=USER)


@pytest.mark.anyio
@pytest.mark.parametrize("stream", [False, True])
async def test_same_idempotency_key_and_body_return_the_same_answer(
    server: LiveServer, predictions: ScriptedPredictions, stream: bool
) -> None:
    body = {**CHAT, "stream": stream}
    reordered = dict(reversed(body.items()))
    first = await post(server, body, idempotency_key="k1")
    again = await post(server, reordered, path="/v1/openai/chat/completions", idempotency_key="k1")
    other = await post(server, body, idempotency_key="k2")
    assert first.status_code == again.status_code == other.status_code == 200
    assert _id_and_text(first) == _id_and_text(again)
    assert first.headers["corral-prediction"] == again.headers["corral-prediction"]
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert _id_and_text(other) != _id_and_text(first)
    digests = {ask.idempotency.body_digest for ask in predictions.asks if ask.idempotency}
    assert len(digests) == 1


@pytest.mark.anyio
async def test_idempotency_key_with_another_body_or_route_is_rejected(server: LiveServer) -> None:
    await post(server, CHAT, idempotency_key="k")
    for body, path in (
        ({**CHAT, "seed": 1}, "/v1/chat/completions"),
        ({**CHAT, "stream": True}, "/v1/chat/completions"),
        ({**CHAT, "unknown": 1}, "/v1/chat/completions"),
        ({**CHAT, "prompt": "x"}, "/v1/completions"),
    ):
        response = await post(server, body, path=path, idempotency_key="k")
        assert response.status_code == 409, body
        assert response.json()["error"]["code"] == "idempotency_conflict"
        assert response.headers["x-should-retry"] == "false"


@pytest.mark.anyio
async def test_a_bad_idempotency_key_is_400(server: LiveServer, predictions: ScriptedPredictions) -> None:
    async with server.http() as http:
        for keys in ([""], ["a b"], ["x" * 256], [b"\xc3\xa9"], ["a", "a"]):
            headers = [("idempotency-key", key) for key in keys]
            response = await http.post("/v1/completions", json={"model": MODEL, "prompt": "x"}, headers=headers)
            assert response.status_code == 400, keys
            assert response.json()["error"]["param"] == "Idempotency-Key"
        headers = [("idempotency-key", "~" * 255)]
        assert (await http.post("/v1/chat/completions", json=CHAT, headers=headers)).status_code == 200
    assert len(predictions.asks) == 1


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("in_body", "in_header", "expected_nusd"),
    [
        (None, None, None),
        (0.0025, None, 2_500_000),
        ("0.0025", None, 2_500_000),
        (0.1, None, 100_000_000),
        (1e-9, None, 1),
        ("0.0000000019", None, 1),
        (0, None, 0),
        (10**9, None, 10**18),
        (None, "0.0025", 2_500_000),
        (None, "3", 3_000_000_000),
        (0.0025, "0.00250", 2_500_000),
    ],
)
async def test_max_cost_header_is_parsed_exactly(
    server: LiveServer,
    predictions: ScriptedPredictions,
    in_body: object,
    in_header: str | None,
    expected_nusd: int | None,
) -> None:
    headers = {} if in_header is None else {"corral_max_cost": in_header}
    response = await post(server, {**CHAT, "max_cost": in_body}, **headers)
    assert response.status_code == 200, response.text
    assert predictions.asks[0].max_cost_nusd == expected_nusd


@pytest.mark.anyio
async def test_invalid_or_repeated_max_cost_header_is_rejected(
    server: LiveServer, predictions: ScriptedPredictions
) -> None:
    for value in (-1, "1e3", "", " 1", "-1", "1.", ".5", "0x1", "nan", True, [], 10**9 + 1, "1" * 11, "\u0661", "1\n"):
        response = await post(server, {**CHAT, "max_cost": value})
        assert response.status_code == 422, value
        assert response.json()["detail"][0]["loc"] == ["body", "max_cost"]
    for value in ("-1", "1e3", "", "$1", "1,5"):
        response = await post(server, CHAT, corral_max_cost=value)
        assert (response.status_code, response.json()["error"]["param"]) == (400, "corral-max-cost"), value
    response = await post(server, {**CHAT, "max_cost": 1}, corral_max_cost="2")
    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == ["body", "max_cost"]
    assert predictions.asks == []


@pytest.mark.anyio
async def test_insufficient_credit_is_402_also_for_streams(
    server: LiveServer, predictions: ScriptedPredictions
) -> None:
    predictions.enter_error = InsufficientCredit("The request could cost 0.01 dollars.")
    for stream in (False, True):
        response = await post(server, {**CHAT, "stream": stream})
        assert response.status_code == 402
        assert response.json()["error"] == {
            "message": "The request could cost 0.01 dollars.",
            "type": "insufficient_quota",
            "param": None,
            "code": "insufficient_quota",
        }


@pytest.mark.anyio
async def test_temporary_errors_have_retry_headers(server: LiveServer, predictions: ScriptedPredictions) -> None:
    for error, words in (
        (RateLimited("60 requests a minute.", retry_after_s=9), "Rate limited"),
        (Overloaded("12 requests wait.", retry_after_s=9), "Model busy, retry later"),
    ):
        predictions.enter_error = error
        response = await post(server, CHAT)
        assert (response.status_code, response.headers["retry-after"]) == (429, "9")
        assert words in response.json()["error"]["message"]
        assert str(error) in response.json()["error"]["message"]


@pytest.mark.anyio
async def test_estimate_prices_chats_and_completions_without_a_run(
    server: LiveServer, predictions: ScriptedPredictions
) -> None:
    for body in ({**CHAT, "max_tokens": 100, "n": 2}, {"model": MODEL, "prompt": "x", "max_tokens": 100, "n": 2}):
        response = await post(server, body, path="/v1/estimate")
        assert response.status_code == 200, response.text
        assert response.content == (
            b'{"model":"%b","prompt_tokens":10,"max_completion_tokens":200,"input_price":0.35,"output_price":0.4,'
            b'"prompt_cost":0.0000035,"worst_case_cost":0.0000835,"price_version":"%b@2024-01-01"}'
            % (MODEL.encode(), MODEL.encode())
        )
    assert predictions.running == predictions.played == 0
    for body, status in (({**CHAT, "temperature": 3}, 422), ({**CHAT, "model": "a/b"}, 404), ([], 422), ({}, 422)):
        assert (await post(server, body, path="/v1/estimate")).status_code == status
    assert (await post(server, CHAT, path="/v1/openai/estimate")).status_code == 404


@pytest.mark.anyio
async def test_cost_is_exact_beyond_float_precision(server: LiveServer, predictions: ScriptedPredictions) -> None:
    predictions.script = answer(*["a"] * 188)
    response = await post(server, CHAT)
    assert response.json()["usage"]["completion_tokens"] == 189
    assert b'"estimated_cost":%b}' % usd(10 * 350 + 189 * 400).encode() in response.content
    assert usd(48 * 350 + 189 * 400) == "0.0000924"


@pytest.mark.anyio
async def test_request_input_is_stored_with_the_prediction(
    server: LiveServer, predictions: ScriptedPredictions
) -> None:
    await post(server, {**CHAT, "top_k": 3.0, "request_timeout": 3})
    assert predictions.asks[0].shown_input == {**CHAT, "top_k": 3.0}
    assert predictions.asks[0].door == "openai"
    assert predictions.asks[0].caller.account_id == "acct_a"
