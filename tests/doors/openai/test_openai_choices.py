"""Several choices, logprobs, constraints and queue positions, with and without streaming."""

import json
import math
from typing import Any

import orjson
import pytest

from corral.core.generation import (
    ChoiceEnded,
    Constraint,
    Finished,
    FinishReason,
    Queued,
    Started,
    Usage,
)
from tests.doors.live_server import LiveServer
from tests.doors.scripted_predictions import EOS, MODEL, ScriptedPredictions, answer, delta

USER = [{"role": "user", "content": "Hello!"}]


async def chunks(server: LiveServer, path: str = "/v1/chat/completions", **body: object) -> list[dict[str, Any]]:
    """Read a stream; asserts the format of its chunks."""
    async with server.http() as http:
        response = await http.post(path, json={"model": MODEL, "messages": USER, "stream": True, **body})
    assert response.status_code == 200, response.text
    events = [event for event in response.text.split("\n\n") if event and not event.startswith(":")]
    assert events.pop() == "data: [DONE]"
    read = [json.loads(event.removeprefix("data: ")) for event in events]
    assert all(len(chunk["choices"]) == 1 for chunk in read)
    return read


def of_choice(index: int, read: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [chunk["choices"][0] for chunk in read if chunk["choices"][0]["index"] == index]


@pytest.mark.anyio
async def test_choices_stream_by_index_with_usage_last(server: LiveServer, predictions: ScriptedPredictions) -> None:
    predictions.script = answer(" a", "b", choices=3)
    read = await chunks(server, n=3)
    assert predictions.requests[0].choices == 3
    for index in range(3):
        mine = of_choice(index, read)
        assert "".join(choice["delta"].get("content", "") for choice in mine) == " ab"
        assert mine[0]["delta"] == {"role": "assistant", "content": ""}
        assert [choice["finish_reason"] for choice in mine] == [*[None] * (len(mine) - 1), "stop"]
        assert mine[-1]["delta"] == {}
    assert [chunk["usage"] for chunk in read[:-1]] == [None] * (len(read) - 1)
    assert read[-1]["choices"][0]["finish_reason"] == "stop"
    assert read[-1]["usage"]["completion_tokens"] == 9
    assert len({chunk["id"] for chunk in read}) == 1


@pytest.mark.anyio
async def test_finished_choice_is_reported_at_once_and_the_last_has_the_usage(
    server: LiveServer, predictions: ScriptedPredictions
) -> None:
    predictions.script = [
        Started(prompt_tokens=10, seed=1),
        delta("x", 1, 1),
        ChoiceEnded(choice=1, reason=FinishReason.STOP, stop="y"),
        delta("a", 1, 0),
        ChoiceEnded(choice=0, reason=FinishReason.LENGTH),
        Finished(usage=Usage(prompt_tokens=10, completion_tokens=2)),
    ]
    read = await chunks(server, n=2, stream_options={"continuous_usage_stats": True})
    ends = [choice for chunk in read for choice in chunk["choices"] if choice["finish_reason"]]
    assert [(end["index"], end["finish_reason"]) for end in ends] == [(1, "stop"), (0, "length")]
    assert [chunk["usage"]["completion_tokens"] for chunk in read] == [0, 0, 1, 1, 2, 2]
    assert read[-1]["usage"]["estimated_cost"] == 0.0000043


@pytest.mark.anyio
async def test_several_choices_are_whole_answers_in_order(server: LiveServer, predictions: ScriptedPredictions) -> None:
    predictions.script = answer(" a", choices=2)
    async with server.openai() as client:
        completion = await client.chat.completions.create(model=MODEL, messages=USER, n=2, seed=7)
    assert [(choice.index, choice.message.content) for choice in completion.choices] == [(0, " a"), (1, " a")]
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 4
    assert predictions.requests[0].seed == 7


@pytest.mark.anyio
@pytest.mark.parametrize("top", [None, 0, 1])
async def test_log_probabilities_cover_every_billed_token_whole_and_streamed(
    server: LiveServer, predictions: ScriptedPredictions, top: int | None
) -> None:
    llama = "\N{LLAMA}".encode()
    predictions.script = [
        Started(prompt_tokens=10, seed=1),
        delta("", 1, piece=llama[:2]),
        delta("\N{LLAMA}", 2, piece=llama[2:]),
        delta("", 3, piece=EOS),
        ChoiceEnded(choice=0, reason=FinishReason.STOP),
        Finished(usage=Usage(prompt_tokens=10, completion_tokens=3)),
    ]
    body: Any = {"model": MODEL, "messages": USER, "logprobs": True, "top_logprobs": top, "temperature": 0}
    async with server.openai() as client:
        whole = await client.chat.completions.create(**body)
    assert whole.choices[0].logprobs is not None
    content = whole.choices[0].logprobs.content or []
    assert len(content) == 3
    assert b"".join(bytes(entry.bytes or ()) for entry in content) == llama + EOS
    assert [entry.logprob for entry in content] == [-0.25, -0.5, -0.75]
    assert content[2].token == "</s>"
    for entry in content:
        expected = [(entry.token, entry.logprob, entry.bytes)] if top else []
        assert [(best.token, best.logprob, best.bytes) for best in entry.top_logprobs] == expected
    read = await chunks(server, logprobs=True, top_logprobs=top, temperature=0)
    streamed = [e for chunk in read for e in chunk["choices"][0].get("logprobs", {"content": []})["content"]]
    assert streamed == [entry.model_dump() for entry in content]
    assert all(request.pieces for request in predictions.requests)


@pytest.mark.anyio
async def test_logprobs_are_omitted_unless_requested(server: LiveServer, predictions: ScriptedPredictions) -> None:
    for extra in ({}, {"logprobs": False, "top_logprobs": 0}):
        assert not any("logprobs" in chunk["choices"][0] for chunk in await chunks(server, **extra))
    assert not any(request.pieces for request in predictions.requests)


@pytest.mark.anyio
async def test_infinite_logprob_is_valid_json(server: LiveServer, predictions: ScriptedPredictions) -> None:
    impossible = delta("a", 1).__class__(
        choice=0, text="a", ids=(1,), logprobs=(-math.inf,), pieces=(b"a",), completion_tokens=1
    )
    predictions.script = [*answer("a")[:1], impossible, *answer("a")[2:]]
    async with server.http() as http:
        body = {"model": MODEL, "messages": USER, "logprobs": True}
        response = await http.post("/v1/chat/completions", json=body)
    assert response.json()["choices"][0]["logprobs"]["content"][0]["logprob"] == -9999.0


@pytest.mark.anyio
@pytest.mark.parametrize(
    "extra",
    [
        {"top_logprobs": 2, "temperature": 0},
        {"top_logprobs": 20, "temperature": 0, "stream": True},
        {"top_logprobs": 1},
        {"top_logprobs": 1, "temperature": 0, "presence_penalty": 1},
        {"top_logprobs": 1, "temperature": 0, "repetition_penalty": 1.1},
        {"top_logprobs": 1, "temperature": 0, "response_format": {"type": "json_object"}},
    ],
)
async def test_unsupported_top_logprobs_are_rejected_by_name(
    server: LiveServer, predictions: ScriptedPredictions, extra: dict[str, object]
) -> None:
    completion = {("logprobs" if name == "top_logprobs" else name): value for name, value in extra.items()}
    asked: list[tuple[str, dict[str, object], str]] = [
        ("/v1/chat/completions", {"messages": USER, "logprobs": True, **extra}, "top_logprobs"),
        ("/v1/completions", {"prompt": "a", **completion}, "logprobs"),
        ("/v1/completions", {"prompt": "a", "echo": True, "logprobs": 1, "temperature": 0}, "logprobs"),
    ]
    async with server.http() as http:
        for path, body, param in asked:
            response = await http.post(path, json={"model": MODEL, **body})
            assert (response.status_code, response.json()["error"]["param"]) == (400, param)
    assert predictions.requests == []


@pytest.mark.anyio
async def test_top_logprobs_alone_is_refused_by_name(server: LiveServer) -> None:
    async with server.http() as http:
        for extra in ({"top_logprobs": 1}, {"top_logprobs": 1, "logprobs": False}):
            response = await http.post("/v1/chat/completions", json={"model": MODEL, "messages": USER, **extra})
            assert (response.status_code, response.json()["error"]["param"]) == (400, "top_logprobs")


@pytest.mark.anyio
async def test_queue_position_is_a_comment_before_the_first_chunk(
    server: LiveServer, predictions: ScriptedPredictions
) -> None:
    predictions.script = [Queued(position=2), Queued(position=1), *answer(" Hi")]
    async with server.http() as http:
        response = await http.post("/v1/chat/completions", json={"model": MODEL, "messages": USER, "stream": True})
    assert response.text.startswith(": queue position 2\n\n: queue position 1\n\ndata: {")
    async with server.openai() as client:
        stream = await client.chat.completions.create(model=MODEL, messages=USER, stream=True)
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == " Hi"
        whole = await client.chat.completions.create(model=MODEL, messages=USER)
    assert whole.choices[0].message.content == " Hi"


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("wanted", "constraint"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, Constraint(kind="json_schema", source='{"type":"object"}')),
        ({"type": "regex", "regex": "yes|no"}, Constraint(kind="regex", source="yes|no")),
        (
            {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA, "strict": True}},
            Constraint(kind="json_schema", source=orjson.dumps(SCHEMA).decode()),
        ),
        (
            {"type": "json_schema", "json_schema": {"name": "a"}},
            Constraint(kind="json_schema", source='{"type":"object"}'),
        ),
    ],
)
async def test_response_format_becomes_an_engine_constraint(
    server: LiveServer, predictions: ScriptedPredictions, wanted: dict[str, object], constraint: Constraint | None
) -> None:
    async with server.http() as http:
        for path, prompt in (("chat/completions", {"messages": USER}), ("completions", {"prompt": "x"})):
            body = {"model": MODEL, "response_format": wanted, **prompt}
            assert (await http.post(f"/v1/{path}", json=body)).status_code == 200
    assert [request.constraint for request in predictions.requests] == [constraint] * 2


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("wanted", "status", "place"),
    [
        ({"type": "grammar"}, 422, "type"),
        ({}, 422, "type"),
        ("json_object", 422, None),
        ({"type": "json_schema"}, 400, "response_format.json_schema"),
        ({"type": "json_schema", "json_schema": {"schema": {}}}, 422, "name"),
        ({"type": "json_schema", "json_schema": {"name": "a b"}}, 422, "name"),
        ({"type": "json_schema", "json_schema": {"name": "a" * 65}}, 422, "name"),
        ({"type": "json_schema", "json_schema": {"name": "a", "schema": True}}, 422, "schema"),
        (
            {"type": "json_schema", "json_schema": {"name": "a", "schema": {"enum": ["x" * 2**16]}}},
            400,
            "response_format.json_schema.schema",
        ),
        ({"type": "regex"}, 400, "response_format.regex"),
        ({"type": "regex", "regex": ""}, 422, "regex"),
        ({"type": "regex", "regex": "a" * 2049}, 422, "regex"),
    ],
)
async def test_malformed_response_format_is_rejected_with_its_path(
    server: LiveServer, predictions: ScriptedPredictions, wanted: object, status: int, place: str | None
) -> None:
    async with server.http() as http:
        body = {"model": MODEL, "messages": USER, "response_format": wanted}
        response = await http.post("/v1/chat/completions", json=body)
    assert response.status_code == status, response.text
    if status == 400:
        assert response.json()["error"]["param"] == place
    else:
        location = response.json()["detail"][0]["loc"]
        assert location[:2] == ["body", "response_format"]
        assert place is None or location[-1] == place
    assert predictions.requests == []
