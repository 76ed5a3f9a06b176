"""Chat completions without streaming, with the official client."""

import re
from dataclasses import replace

import pytest

from corral.api.doors.openai.wire import ChatCompletionRequest
from corral.api.doors.openai.wire_answers import Model
from corral.api.run_headers import weights_header
from corral.core.generation import ChatPrompt, FinishReason, Message, Role, Sampling, Stopping
from tests.doors.live_server import LiveServer
from tests.doors.scripted_predictions import CREATED, MODEL, ScriptedPredictions, answer, catalog

USER = [{"role": "user", "content": "Hello!"}]


@pytest.mark.anyio
async def test_an_answer_has_the_documented_shape_and_keeps_its_leading_space(server: LiveServer) -> None:
    async with server.http() as http:
        response = await http.post("/v1/chat/completions", json={"model": MODEL, "messages": USER})
    body = response.json()
    assert re.fullmatch(r"chatcmpl-[0-9a-f]{32}", body.pop("id"))
    assert body == {
        "object": "chat.completion",
        "created": CREATED,
        "model": MODEL,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": " Hello!"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "total_tokens": 13, "completion_tokens": 3, "estimated_cost": 0.0000047},
    }
    assert response.headers["corral-weights"] == "demo"
    assert re.fullmatch(r"\d{26}", response.headers["corral-prediction"])
    assert "idempotency-replayed" not in response.headers
    assert b'"estimated_cost":0.0000047}' in response.content


@pytest.mark.anyio
async def test_the_official_client_reads_an_answer(server: LiveServer, predictions: ScriptedPredictions) -> None:
    predictions.script = answer(" Bonjour", reason=FinishReason.LENGTH)
    async with server.openai() as client:
        completion = await client.chat.completions.create(model=MODEL.upper(), messages=USER)
    assert completion.model == MODEL.upper()
    assert completion.choices[0].message.content == " Bonjour"
    assert completion.choices[0].finish_reason == "length"
    assert completion.usage is not None
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens


@pytest.mark.anyio
async def test_every_mapped_field_reaches_the_service(server: LiveServer, predictions: ScriptedPredictions) -> None:
    messages = [
        {"role": "user", "content": "Hi", "name": "ann"},
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Write "}, {"type": "text", "text": "on."}]},
        {"role": "assistant", "content": "Once"},
    ]
    body = {
        "model": MODEL,
        "messages": messages,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 40.0,
        "min_p": 0.1,
        "presence_penalty": 1,
        "frequency_penalty": -1.5,
        "repetition_penalty": 1.2,
        "max_tokens": 7,
        "max_completion_tokens": 7,
        "stop": "END",
        "seed": -(2**63),
    }
    async with server.http() as http:
        assert (await http.post("/v1/openai/chat/completions", json=body)).status_code == 200
    (request,) = predictions.requests
    assert request.model == MODEL
    assert request.prompt == ChatPrompt(
        (
            Message(role=Role.USER, content="Hi"),
            Message(role=Role.ASSISTANT, content=""),
            Message(role=Role.SYSTEM, content="Be brief."),
            Message(role=Role.USER, content="Write on."),
            Message(role=Role.ASSISTANT, content="Once"),
        )
    )
    assert request.sampling == Sampling(
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        min_p=0.1,
        presence_penalty=1,
        frequency_penalty=-1.5,
        repetition_penalty=1.2,
    )
    assert request.stopping == Stopping(max_tokens=7, stop=("END",))
    assert request.seed == -(2**63)


@pytest.mark.anyio
async def test_null_equals_an_omitted_field(server: LiveServer, predictions: ScriptedPredictions) -> None:
    nulls = dict.fromkeys(set(ChatCompletionRequest.model_fields) - {"model", "messages"})
    async with server.http() as http:
        for extra in ({}, nulls):
            body = {"model": MODEL, "messages": USER, **extra}
            assert (await http.post("/v1/chat/completions", json=body)).status_code == 200
    assert predictions.requests[0] == predictions.requests[1]
    assert predictions.requests[0].sampling == Sampling()
    assert predictions.requests[0].stopping == Stopping()
    assert predictions.requests[0].seed is None


@pytest.mark.anyio
async def test_min_p_of_one_is_greedy(server: LiveServer, predictions: ScriptedPredictions) -> None:
    async with server.http() as http:
        await http.post("/v1/chat/completions", json={"model": MODEL, "messages": USER, "min_p": 1, "top_k": 9})
    assert predictions.requests[0].sampling == Sampling(top_k=1)


@pytest.mark.anyio
async def test_range_limits_are_accepted(server: LiveServer, predictions: ScriptedPredictions) -> None:
    low = {"temperature": 0, "top_p": 1e-9, "top_k": 0, "min_p": 0, "repetition_penalty": 0.01, "max_tokens": 1}
    high = {"temperature": 2, "top_p": 1, "top_k": 999, "repetition_penalty": 5, "max_tokens": 10**6, "seed": 2**64}
    async with server.http() as http:
        for extra in (low, high, {"stop": ["x" * 256] * 16}, {"stop": []}):
            body = {"model": MODEL, "messages": USER, **extra}
            response = await http.post("/v1/chat/completions", json=body)
            assert response.status_code == 200, response.text
    assert predictions.requests[1].seed == 2**64


def test_checkpoint_name_is_encoded_for_the_header() -> None:
    model = catalog().models()[0]
    assert weights_header(model) == {"corral-weights": "demo"}
    assert weights_header(replace(model, weights="Llama 2\r\n\u043c")) == {"corral-weights": "Llama 2%0D%0A%D0%BC"}


@pytest.mark.anyio
async def test_model_list_names_the_loaded_checkpoint(server: LiveServer) -> None:
    async with server.openai() as client:
        listed = (await client.models.list()).data
        found = await client.models.retrieve(MODEL.lower())
    assert [model.id for model in listed] == [MODEL, "meta/llama-2-7b-chat"]
    shown = found.model_dump(exclude_unset=True)
    assert {name: shown[name] for name in Model.__annotations__} == {
        "id": MODEL,
        "object": "model",
        "created": 1_689_638_400,
        "owned_by": "meta-llama",
        "root": MODEL,
        "parent": None,
        "metadata": {
            "description": "A model for tests.",
            "context_length": 4096,
            "max_tokens": 4096,
            "pricing": {"input_tokens": 0.35, "output_tokens": 0.4},
            "tags": [],
        },
        "corral": {"weights": "demo", "stands_in": True, "state": "ready"},
    }
