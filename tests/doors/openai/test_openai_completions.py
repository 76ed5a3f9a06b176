"""``/completions``: raw prompts, token ids, echo, logprobs in the legacy format."""

import re
from itertools import chain
from typing import Any

import pytest
from openai import AsyncOpenAI

from corral.core.generation import Echo, RawPrompt, Stopping, TokenPrompt
from tests.doors.live_server import LiveServer
from tests.doors.openai.test_openai_choices import chunks
from tests.doors.scripted_predictions import CREATED, MODEL, ScriptedPredictions, answer

ECHO = Echo(text="Hé", ids=(1, 5, 6), pieces=(b"", b"H", "é".encode()), logprobs=(None, -1.5, -2.5))


async def create(client: AsyncOpenAI, **body: object) -> Any:
    asked: Any = {"model": MODEL, "prompt": "Once", **body}
    return await client.completions.create(**asked)


async def refusal(server: LiveServer, **body: object) -> tuple[int, str | None]:
    async with server.http() as http:
        response = await http.post("/v1/completions", json={"model": MODEL, "prompt": "x", **body})
    answered = response.json()
    if response.status_code == 422:
        return 422, answered["detail"][0]["loc"][1]
    return response.status_code, answered.get("error", {}).get("param")


@pytest.mark.anyio
async def test_a_completion_has_the_documented_shape(server: LiveServer) -> None:
    async with server.http() as http:
        for path in ("/v1/completions", "/v1/openai/completions"):
            response = await http.post(path, json={"model": MODEL, "prompt": "Once"})
            body = response.json()
            assert re.fullmatch(r"cmpl-[0-9a-f]{32}", body.pop("id"))
            assert body == {
                "object": "text_completion",
                "created": CREATED,
                "model": MODEL,
                "choices": [{"index": 0, "text": " Hello!", "logprobs": None, "finish_reason": "stop"}],
                "usage": {
                    "prompt_tokens": 10,
                    "total_tokens": 13,
                    "completion_tokens": 3,
                    "estimated_cost": 0.0000047,
                },
            }
            assert response.headers["corral-weights"] == "demo"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("prompt", "core"),
    [
        ("Once", RawPrompt("Once")),
        ("", RawPrompt("")),
        (["Once"], RawPrompt("Once")),
        ([1, 2, 31999], TokenPrompt((1, 2, 31999))),
        ([[1, 2]], TokenPrompt((1, 2))),
    ],
)
async def test_prompt_formats_are_equivalent(
    server: LiveServer, predictions: ScriptedPredictions, prompt: object, core: object
) -> None:
    async with server.openai() as client:
        await create(client, prompt=prompt)
    assert predictions.requests[0].prompt == core


LIMIT_OF_ZERO = {
    "loc": ["body", "max_tokens"],
    "msg": "Input should be greater than or equal to 1, or 0 together with echo",
    "type": "greater_than_equal",
}


@pytest.mark.anyio
async def test_default_max_tokens_is_512_and_zero_requires_echo(
    server: LiveServer, predictions: ScriptedPredictions
) -> None:
    async with server.openai() as client:
        await create(client)
        await create(client, max_tokens=1)
        await create(client, max_tokens=0, echo=True)
    assert [request.stopping for request in predictions.requests] == [Stopping(max_tokens=n) for n in (512, 1, 0)]
    assert [request.echo for request in predictions.requests] == [False, False, True]
    async with server.http() as http:
        for body in ({"max_tokens": 0}, {"max_tokens": 0, "echo": False}):
            response = await http.post("/v1/completions", json={"model": MODEL, "prompt": "Hi", **body})
            assert (response.status_code, response.json()["detail"]) == (422, [LIMIT_OF_ZERO])


@pytest.mark.anyio
async def test_unsupported_fields_and_several_prompts_are_rejected_by_name(
    server: LiveServer, predictions: ScriptedPredictions
) -> None:
    assert await refusal(server, prompt=["a", "b"]) == (400, "prompt")
    assert await refusal(server, prompt=[[1], [2]]) == (400, "prompt")
    refused: dict[str, object] = {
        "best_of": 2,
        "suffix": "x",
        "stop_token_ids": [2],
        "return_tokens_as_token_ids": True,
        "data": "x",
        "logit_bias": {"1": 1},
    }
    for field, value in refused.items():
        assert await refusal(server, **{field: value}) == (400, field)
    assert await refusal(server, best_of=3, n=2) == (400, "best_of")
    assert predictions.requests == []


@pytest.mark.anyio
async def test_fields_without_effect_are_accepted(server: LiveServer, predictions: ScriptedPredictions) -> None:
    predictions.script = answer(" a", choices=2)
    harmless = {"suffix": "", "stop_token_ids": [], "return_tokens_as_token_ids": False, "data": None, "user": "ann"}
    assert await refusal(server, n=2, best_of=2, **harmless) == (200, None)
    assert await refusal(server, n=2, best_of=1, unknown={"a": 1}, messages=5) == (200, None)
    assert predictions.requests[0] == predictions.requests[1]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "extra",
    [
        {"prompt": None},
        {"prompt": []},
        {"prompt": [[]]},
        {"prompt": 5},
        {"prompt": [1.5]},
        {"prompt": [-1]},
        {"prompt": [2**31]},
        {"prompt": [True]},
        {"prompt": ["a", 1]},
        {"prompt": [1] * 300_000},
        {"prompt": [None] * 400_000},
        {"logprobs": 21},
        {"logprobs": -1},
        {"logprobs": True},
        {"echo": "yes"},
        {"best_of": 0},
        {"n": 5},
        {"max_tokens": 1_000_001},
        {"temperature": 2.1},
    ],
)
async def test_out_of_range_value_is_422_with_its_path(
    server: LiveServer, predictions: ScriptedPredictions, extra: dict[str, object]
) -> None:
    assert await refusal(server, **extra) == (422, next(iter(extra)))
    assert predictions.requests == []


@pytest.mark.anyio
async def test_range_limits_are_accepted(server: LiveServer, predictions: ScriptedPredictions) -> None:
    predictions.script = answer("a", choices=4)
    for extra in (
        {"logprobs": 0, "n": 4, "best_of": 4},
        {"logprobs": 1, "temperature": 0, "max_tokens": 1_000_000, "n": 4},
        {"prompt": [2**31 - 1, 0], "n": 4},
        {"prompt": [1] * 2**18, "n": 4.0},
    ):
        assert await refusal(server, **extra) == (200, None)


@pytest.mark.anyio
async def test_an_echo_comes_before_each_choice(server: LiveServer, predictions: ScriptedPredictions) -> None:
    predictions.script = answer(" a", "b", choices=2, echo=ECHO)
    async with server.openai() as client:
        whole = await create(client, echo=True, n=2)
    assert [choice.text for choice in whole.choices] == ["Hé ab"] * 2
    read = await chunks(server, "/v1/completions", prompt="Hé", echo=True, n=2)
    for index in range(2):
        texts = [c["choices"][0]["text"] for c in read if c["choices"][0]["index"] == index]
        assert texts[0] == "Hé"
        assert "".join(texts) == "Hé ab"


@pytest.mark.anyio
@pytest.mark.parametrize("stream", [False, True])
async def test_logprobs_have_text_offsets(server: LiveServer, predictions: ScriptedPredictions, stream: bool) -> None:
    predictions.script = answer(" ä", "b", echo=ECHO)
    parts: list[dict[str, Any]] = []
    if stream:
        read = await chunks(server, "/v1/completions", prompt="Hé", echo=True, logprobs=0)
        parts = [chunk["choices"][0]["logprobs"] for chunk in read[:-1]]
        assert read[-1]["choices"][0]["logprobs"] is None
    else:
        async with server.openai() as client:
            parts = [(await create(client, echo=True, logprobs=0)).choices[0].logprobs.model_dump()]
    assert all(part.pop("top_logprobs") is None for part in parts)
    joined = {name: list(chain.from_iterable(part[name] for part in parts)) for name in parts[0]}
    assert joined == {
        "tokens": ["", "H", "é", " ä", "b", "</s>"],
        "token_logprobs": [None, -1.5, -2.5, -0.25, -0.5, -0.75],
        "text_offset": [0, 0, 1, 2, 4, 5],
    }


@pytest.mark.anyio
async def test_greedy_answer_has_one_top_logprob_per_token(server: LiveServer) -> None:
    async with server.openai() as client:
        (choice,) = (await create(client, logprobs=1, temperature=0)).choices
    assert [list(top) for top in choice.logprobs.top_logprobs] == [[" Hello"], ["!"], ["</s>"]]


@pytest.mark.anyio
async def test_logprobs_of_zero_have_no_alternatives(server: LiveServer) -> None:
    async with server.openai() as client:
        (choice,) = (await create(client, logprobs=0)).choices
    assert choice.logprobs.top_logprobs is None
    assert choice.logprobs.tokens == [" Hello", "!", "</s>"]


@pytest.mark.anyio
async def test_stream_chunks_have_text_and_the_last_has_usage(server: LiveServer) -> None:
    async with server.openai() as client:
        stream = await create(client, stream=True)
        read = [chunk async for chunk in stream]
    assert all(isinstance(chunk.choices[0].text, str) for chunk in read)
    assert "".join(chunk.choices[0].text for chunk in read) == " Hello!"
    assert [chunk.choices[0].finish_reason for chunk in read] == [*[None] * (len(read) - 1), "stop"]
    assert {chunk.object for chunk in read} == {"text_completion"}
    assert [chunk.usage for chunk in read[:-1]] == [None] * (len(read) - 1)
    assert read[-1].usage.total_tokens == 13
