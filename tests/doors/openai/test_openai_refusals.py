"""Rejected and ignored fields of the OpenAI API, and its error responses."""

import gzip
import json
import re
import zlib
from typing import Any

import orjson
import pytest
import structlog
from openai import APIStatusError, UnprocessableEntityError

from corral.api.deploy_ids import deploy_id
from corral.api.doors.openai.errors import ERRORS, from_error
from corral.api.doors.openai.translate import HARMLESS
from corral.core.errors import (
    CorralError,
    DataRemoved,
    EngineFailed,
    EngineUnavailable,
    IdempotencyConflict,
    InsufficientCredit,
    Overloaded,
    PermissionDenied,
    PromptTooLong,
    RateLimited,
    UnknownModel,
)
from corral.core.generation import ChatPrompt, Message, Role
from tests.doors.error_examples import every_error, example_error, subclasses
from tests.doors.live_server import LiveServer
from tests.doors.scripted_predictions import MODEL, ScriptedPredictions

USER = [{"role": "user", "content": "a secret prompt"}]

REFUSED = {
    "tool_choice": "required",
    "functions": [{"name": "f"}],
    "function_call": {"name": "f"},
    "logit_bias": {"5": 1},
    "modalities": ["text", "audio"],
    "audio": {"voice": "ash"},
    "prediction": {"type": "content"},
    "reasoning": {"effort": "low"},
    "reasoning_effort": "high",
    "verbosity": "low",
    "web_search_options": {},
    "chat_template_kwargs": {"a": 1},
}

ACCEPTED = [
    {"n": 1, "tools": [], "tool_choice": "none", "functions": [], "function_call": "auto", "logprobs": False},
    {"tool_choice": "auto", "top_logprobs": 0, "logit_bias": {}, "response_format": {"type": "text"}},
    {"metadata": {"a": "b"}, "store": True, "service_tier": "flex", "parallel_tool_calls": True, "user": "ann"},
    {"prompt_cache_key": "k", "safety_identifier": "s", "request_timeout": 3, "a": {"b": []}, "modalities": ["text"]},
    {"stream_options": {"include_usage": True}},
]

OUT_OF_RANGE = [
    {"temperature": 2.1},
    {"temperature": -0.1},
    {"temperature": "0.7"},
    {"temperature": True},
    {"top_p": 0},
    {"top_p": 1.1},
    {"top_k": 1000},
    {"top_k": -1},
    {"top_k": 1.5},
    {"min_p": 1.1},
    {"presence_penalty": 2.1},
    {"frequency_penalty": -2.1},
    {"repetition_penalty": 0},
    {"repetition_penalty": 5.1},
    {"max_tokens": -1},
    {"max_tokens": 1_000_001},
    {"max_tokens": 1e300},
    {"max_tokens": 5, "max_completion_tokens": 6},
    {"stop": ["a"] * 17},
    {"stop": "a" * 257},
    {"stop": ""},
    {"stop": [1]},
    {"seed": 2**64 + 2**12},
    {"seed": -(2**63) - 2**12},
    {"n": 0},
    {"n": 5},
    {"response_format": {"type": "text", "schema": {}}},
    {"response_format": {"type": "json_object", "json_schema": {"name": "a", "schema": {}}}},
    {"response_format": {"type": "json_schema", "schema": {}}},
    {"response_format": {"type": "json_object", "shema": {}}},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "shema": {}}}},
    {"stream": "yes"},
    {"stream_options": []},
    {"model": ""},
    {"model": "m" * 257},
    {"model": 7},
    {"messages": []},
    {"messages": "a secret prompt"},
    {"messages": [{"role": "user", "content": "a secret prompt"}] * 5000},
    {"messages": [{"role": "poet", "content": "a secret prompt"}]},
    {"messages": [{"role": "user", "content": 5}]},
    {"messages": [{"content": "a secret prompt"}]},
    {"messages": ["a secret prompt"] * 100},
]


async def _post(server: LiveServer, **extra: object) -> tuple[int, dict[str, Any]]:
    body = {"model": MODEL, "messages": USER, **extra}
    async with server.http() as http:
        response = await http.post("/v1/chat/completions", content=json.dumps(body))
    return response.status_code, response.json()


def test_examples_cover_every_rejected_field() -> None:
    assert set(REFUSED) | {"tools"} == set(HARMLESS)


@pytest.mark.anyio
async def test_unsupported_fields_are_rejected_by_name(server: LiveServer, predictions: ScriptedPredictions) -> None:
    for field, value in REFUSED.items():
        status, body = await _post(server, **{field: value})
        assert status == 400, field
        assert body["error"]["param"] == field
        assert field in body["error"]["message"]
    assert predictions.requests == []


@pytest.mark.anyio
async def test_tools_are_400_on_openais_routes_and_405_on_deepinfras(server: LiveServer) -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    status, body = await _post(server, tools=tools)
    assert (status, body["error"]["param"], body["error"]["code"]) == (400, "tools", "unsupported_value")
    async with server.http() as http:
        asked = {"model": MODEL, "messages": USER, "tools": tools}
        response = await http.post("/v1/openai/chat/completions", json=asked)
    assert response.status_code == 405
    assert response.json() == {
        "error": {
            "message": f"Tool calling is not supported for model: {MODEL}",
            "type": "invalid_request_error",
            "param": "tools",
            "code": None,
        }
    }


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "tool", "content": "4", "tool_call_id": "c"}, "messages[1].role"),
        ({"role": "function", "content": "4", "name": "f"}, "messages[1].role"),
        ({"role": "assistant", "content": None, "tool_calls": [{"id": "c"}]}, "messages[1].tool_calls"),
        ({"role": "assistant", "content": "", "refusal": "No."}, "messages[1].refusal"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, "messages[1].content[0]"),
        ({"role": "user", "content": [{"type": "text"}]}, "messages[1].content[0]"),
        ({"role": "user", "content": None}, "messages[1].content"),
        ({"role": "user"}, "messages[1].content"),
    ],
)
async def test_unsupported_message_is_rejected_with_its_path(
    server: LiveServer, message: dict[str, object], param: str
) -> None:
    status, body = await _post(server, messages=[*USER, message])
    assert (status, body["error"]["param"]) == (400, param)


@pytest.mark.anyio
async def test_max_tokens_of_zero_is_rejected_under_the_sent_name(server: LiveServer) -> None:
    for field in ("max_tokens", "max_completion_tokens"):
        status, body = await _post(server, **{field: 0})
        assert (status, body["detail"][0]["loc"]) == (422, ["body", field])


@pytest.mark.anyio
async def test_ignored_fields_change_nothing(server: LiveServer, predictions: ScriptedPredictions) -> None:
    await _post(server)
    for extra in ACCEPTED:
        status, body = await _post(server, **extra)
        assert status == 200, (extra, body)
    assert all(request == predictions.requests[0] for request in predictions.requests)


@pytest.mark.anyio
async def test_out_of_range_value_is_422_with_its_path_and_without_the_value(
    server: LiveServer, predictions: ScriptedPredictions
) -> None:
    for extra in OUT_OF_RANGE:
        status, body = await _post(server, **extra)
        assert status == 422, (extra, body)
        assert 1 <= len(body["detail"]) <= 16
        for fault in body["detail"]:
            assert set(fault) == {"loc", "msg", "type"}
            assert fault["loc"][0] == "body"
            assert fault["loc"][1:2] in ([next(iter(extra))], [])
        assert "secret" not in str(body)
        assert all(fault["msg"] in body["error"]["message"] for fault in body["detail"])
    assert predictions.requests == []


@pytest.mark.anyio
async def test_the_official_client_shows_which_field_is_out_of_its_range(server: LiveServer) -> None:
    async with server.openai() as client:
        for name, value, words in (
            ("temperature", 2.5, "temperature: Input should be less than or equal to 2"),
            ("seed", 10**30, "seed: Input should be less than or equal to 18446744073709551616"),
            ("max_tokens", 0, "max_tokens: Input should be greater than or equal to 1"),
        ):
            asked: Any = {"model": MODEL, "messages": USER, name: value}
            with pytest.raises(UnprocessableEntityError, match=re.escape(words)) as caught:
                await client.chat.completions.create(**asked)
            assert caught.value.param == name


@pytest.mark.anyio
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"hello",
        b'{"model": NaN}',
        b'{"model": "x", "model": "y"}',
        b'{"model": "\xff"}',
        b'{"model": "\\ud800"}',
        b"[" * 100_000,
        b'{"a":' * 2000 + b"1" + b"}" * 2000,
    ],
)
async def test_body_that_is_not_json_is_400(server: LiveServer, content: bytes) -> None:
    async with server.http() as http:
        response = await http.post("/v1/chat/completions", content=content)
        assert response.status_code == 400
        assert response.json()["error"]["type"] == "invalid_request_error"
        assert (await http.post("/v1/chat/completions", json={"model": MODEL, "messages": USER})).status_code == 200


@pytest.mark.anyio
async def test_json_that_is_not_an_object_is_422(server: LiveServer) -> None:
    async with server.http() as http:
        for content in (b"[]", b"null", b"1", b'"x"'):
            response = await http.post("/v1/chat/completions", content=content)
            assert response.status_code == 422
            assert response.json()["detail"][0]["loc"] == ["body"]


@pytest.mark.anyio
async def test_a_body_needs_no_content_type_and_may_begin_with_a_byte_order_mark(
    server: LiveServer, predictions: ScriptedPredictions
) -> None:
    body = b'\xef\xbb\xbf{"model":"%b","messages":[{"role":"user","content":"\\u0000\\ud83e\\udd99"}]}' % MODEL.encode()
    async with server.http() as http:
        response = await http.post("/v1/chat/completions", content=body, headers={"content-type": "text/plain"})
    assert response.status_code == 200
    prompt = predictions.requests[0].prompt
    assert prompt == ChatPrompt((Message(role=Role.USER, content="\x00\N{LLAMA}"),))


@pytest.mark.anyio
async def test_a_gzip_body_is_read(server: LiveServer, predictions: ScriptedPredictions) -> None:
    body = orjson.dumps({"model": MODEL, "messages": USER})
    async with server.http() as http:
        for path in ("/v1/chat/completions", "/v1/openai/chat/completions"):
            for encoding in ("gzip", "GZIP", "x-gzip"):
                packed = gzip.compress(body)
                response = await http.post(path, content=packed, headers={"content-encoding": encoding})
                assert response.status_code == 200
    assert len(set(predictions.requests)) == 1


@pytest.mark.anyio
async def test_other_content_encodings_are_415_and_broken_gzip_is_400(server: LiveServer) -> None:
    async with server.http() as http:
        for encoding in ("br", "deflate", "zstd", "gzip, gzip", "identity, gzip"):
            response = await http.post("/v1/completions", content=b"x", headers={"content-encoding": encoding})
            assert response.status_code == 415, encoding
            assert "gzip" in response.json()["error"]["message"]
        for content in (b"", b"x", gzip.compress(b"{}")[:-1], gzip.compress(b"{}") + b"x", zlib.compress(b"{}")):
            response = await http.post("/v1/completions", content=content, headers={"content-encoding": "gzip"})
            assert response.status_code == 400, content


@pytest.mark.anyio
async def test_gzip_bomb_is_rejected_at_the_body_limit(server: LiveServer) -> None:
    limit = 2 * 1024**2
    async with server.http() as http:
        for size, status in ((limit, 400), (limit + 1, 413), (2**26, 413)):
            packed = gzip.compress(b" " * size)
            response = await http.post("/v1/completions", content=packed, headers={"content-encoding": "gzip"})
            assert response.status_code == status, size


def test_every_corral_error_has_an_openai_response() -> None:
    for error in every_error():
        problem = from_error(error)
        assert 400 <= problem.status <= 599
        body = orjson.loads(orjson.dumps(problem.body))
        assert set(body["error"]) == {"message", "type", "param", "code"}
        assert body["error"]["message"]


def test_every_run_error_has_an_explicit_mapping() -> None:
    core = {kind for kind in CorralError.__subclasses__() if kind.__module__ == CorralError.__module__}
    assert {kind.__name__ for kind in core - set(ERRORS)} == {
        "CheckpointRefused",
        "BadSetting",
    }  # raised only at startup
    assert {kind for kind in subclasses(CorralError) if from_error(example_error(kind)).status >= 500} >= {
        EngineFailed,
        EngineUnavailable,
    }


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("error", "status", "code", "header"),
    [
        (PromptTooLong(prompt_tokens=5000, context_tokens=4096), 400, "context_length_exceeded", None),
        (UnknownModel("x"), 404, "model_not_found", None),
        (Overloaded("Busy.", retry_after_s=3), 429, "overloaded", ("retry-after", "3")),
        (RateLimited("60 requests.", retry_after_s=9), 429, "rate_limit_exceeded", ("retry-after", "9")),
        (InsufficientCredit("No credit."), 402, "insufficient_quota", None),
        (PermissionDenied("Not yours."), 403, "permission_denied", None),
        (IdempotencyConflict("Another body."), 409, "idempotency_conflict", ("x-should-retry", "false")),
        (DataRemoved("Gone."), 410, "data_removed", None),
        (EngineUnavailable("Starting."), 503, "engine_unavailable", ("retry-after", "2")),
        (EngineFailed("Dead."), 500, "engine_failed", ("x-should-retry", "false")),
    ],
)
async def test_errors_of_the_service_reach_the_official_client(
    server: LiveServer,
    predictions: ScriptedPredictions,
    error: CorralError,
    status: int,
    code: str,
    header: tuple[str, str] | None,
) -> None:
    predictions.enter_error = error
    async with server.openai() as client:
        with pytest.raises(APIStatusError) as caught:
            await client.chat.completions.create(model=MODEL, messages=USER)
    assert caught.value.status_code == status
    assert caught.value.code == code
    assert str(error) in caught.value.message
    if header is not None:
        assert caught.value.response.headers[header[0]] == header[1]


@pytest.mark.anyio
async def test_an_unknown_model_is_404_on_every_route(server: LiveServer) -> None:
    async with server.http() as http:
        body = {"model": "a/b", "messages": USER, "tools": [{}]}
        answers = [
            await http.post("/v1/chat/completions", json=body),
            await http.get("/v1/models/a/b"),
            await http.get("/v1/openai/models/b"),
        ]
    assert [answer.status_code for answer in answers] == [404] * 3
    assert {answer.json()["error"]["code"] for answer in answers} == {"model_not_found"}


@pytest.mark.anyio
async def test_model_is_also_found_by_version_and_deploy_id(
    server: LiveServer, predictions: ScriptedPredictions
) -> None:
    model = predictions.catalog.get(MODEL)
    async with server.http() as http:
        for spelt in (f"{MODEL}:{model.version}", f"deploy_id:{deploy_id(model)}"):
            for path, ask in (
                ("/v1/openai/chat/completions", {"messages": USER}),
                ("/v1/completions", {"prompt": "x"}),
            ):
                answer = await http.post(path, json={"model": spelt, **ask})
                assert (answer.status_code, answer.json()["model"]) == (200, spelt)
        for unknown in (f"{MODEL}:0", "deploy_id:0"):
            answer = await http.post("/v1/chat/completions", json={"model": unknown, "messages": USER})
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    assert {asked.model for asked in predictions.requests} == {MODEL}


@pytest.mark.anyio
async def test_unexpected_error_returns_an_id_and_logs_no_prompt(
    server: LiveServer, predictions: ScriptedPredictions
) -> None:
    predictions.enter_error = KeyError("a secret prompt")
    with structlog.testing.capture_logs() as logs:
        status, body = await _post(server)
    assert status == 500
    (entry,) = [log for log in logs if log["event"] == "request_failed"]
    assert body["error"]["message"] == f"Internal error {entry['incident_id']}."
    assert entry["error_type"] == "KeyError"
    assert any("scripted_predictions.py" in frame for frame in entry["frames"])
    assert "secret" not in str(entry)
