"""The official ``openai`` client against the real server and the demo model."""

import asyncio
import os
import signal
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionChunk

from tests.engines import DEADLINE_S, give_up_once_emitting, until_idle, worker_pid
from tests.server.conftest import RealServer

pytestmark = pytest.mark.anyio

STORY: Any = {
    "model": "meta-llama/Llama-2-7b-chat-hf",
    "messages": [{"role": "user", "content": "Tell me a long story about a llama."}],
    "temperature": 0,
    "max_tokens": 200,
}


async def text_of(stream: openai.AsyncStream[ChatCompletionChunk]) -> str:
    return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])


async def test_chat_completion_usage_adds_up(client: openai.AsyncOpenAI) -> None:
    completion = await client.chat.completions.create(
        model="meta/llama-2-70b-chat", messages=[{"role": "user", "content": "Hello!"}], temperature=0
    )
    (choice,) = completion.choices
    assert choice.finish_reason == "stop"
    assert choice.message.content
    assert "Corral" in choice.message.content
    assert completion.model == "meta/llama-2-70b-chat"
    assert completion.usage is not None
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens


async def test_streamed_text_equals_non_streamed_text(client: openai.AsyncOpenAI) -> None:
    whole = await client.chat.completions.create(**STORY)
    chunks = [chunk async for chunk in await client.chat.completions.create(**STORY, stream=True)]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole.choices[0].message.content
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason == "length"
    assert chunks[-1].usage == whole.usage
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 200


async def test_concurrent_requests_get_the_same_answers_as_alone(client: openai.AsyncOpenAI) -> None:
    asked: list[Any] = [{**STORY, "seed": n, "temperature": 0.2 * n, "max_tokens": 60} for n in range(8)]
    alone = [await text_of(await client.chat.completions.create(**one, stream=True)) for one in asked]
    streams = [client.chat.completions.create(**one, stream=True) for one in asked]
    together = await asyncio.gather(*[text_of(stream) for stream in await asyncio.gather(*streams)])
    assert together == alone


async def test_closing_a_stream_early_stops_the_engine_run(server: RealServer, client: openai.AsyncOpenAI) -> None:
    async with await client.chat.completions.create(**STORY, stream=True) as stream:
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
    await until_idle(server.engine)


async def test_disconnect_during_non_streaming_request_frees_the_engine(
    server: RealServer, client: openai.AsyncOpenAI
) -> None:
    await give_up_once_emitting(server.engine, client.chat.completions.create(**{**STORY, "max_tokens": 3000}))
    await until_idle(server.engine)


async def test_killing_the_worker_during_a_stream_changes_nothing_for_the_client(
    server: RealServer, client: openai.AsyncOpenAI
) -> None:
    undisturbed = [chunk async for chunk in await client.chat.completions.create(**STORY, stream=True)]
    restarts = server.engine.stats().restarts
    chunks: list[ChatCompletionChunk] = []
    async for chunk in await client.chat.completions.create(**STORY, stream=True):
        chunks.append(chunk)
        if len(chunks) == 60:
            pid = worker_pid(server.engine)
            assert pid is not None
            os.kill(pid, signal.SIGKILL)

    def text(of: list[ChatCompletionChunk]) -> str:
        return "".join(chunk.choices[0].delta.content or "" for chunk in of)

    assert text(chunks) == text(undisturbed)
    assert chunks[-1].usage == undisturbed[-1].usage
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 200
    async with asyncio.timeout(DEADLINE_S):
        while server.engine.stats().restarts == restarts:
            await asyncio.sleep(0.01)
    assert server.engine.stats().restarts == restarts + 1
    await until_idle(server.engine)


async def test_health_reports_an_engine_restart_and_requests_wait(
    server: RealServer, client: openai.AsyncOpenAI
) -> None:
    pid = worker_pid(server.engine)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    async with server.http() as http:
        async with asyncio.timeout(60):
            while (await http.get("/health")).status_code != 503:
                pass
        completion = await client.chat.completions.create(**{**STORY, "max_tokens": 5})
        assert completion.usage is not None
        assert completion.usage.completion_tokens == 5
        assert (await http.get("/health")).status_code == 200


async def test_demo_model_reports_the_model_it_stands_in_for(server: RealServer, client: openai.AsyncOpenAI) -> None:
    models = {model.id: model async for model in client.models.list()}
    assert models.keys() >= {"corral/demo", "meta/llama-2-13b-chat", "meta-llama/Llama-2-70b-chat-hf"}
    raw = await client.chat.completions.with_raw_response.create(**{**STORY, "max_tokens": 1})
    assert raw.headers["corral-weights"] == "demo"
    async with server.http() as http:
        entries = {entry["id"]: entry["corral"] for entry in (await http.get("/v1/models")).json()["data"]}
    assert entries["corral/demo"] == {"weights": "demo", "stands_in": False, "state": "ready"}
    assert entries["meta/llama-2-7b-chat"] == {"weights": "demo", "stands_in": True, "state": "ready"}


async def test_error_for_a_prompt_longer_than_the_context_has_both_token_counts(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await client.chat.completions.create(
            model="corral/demo", messages=[{"role": "user", "content": "llama " * 5000}]
        )
    assert "context holds 4096" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"model": "gpt-4"}, openai.NotFoundError),
        ({"messages": [{"role": "user", "content": "x"}] * 5000}, openai.UnprocessableEntityError),
        ({"messages": [{"role": "user", "content": "x" * 10_000_000}]}, openai.APIStatusError),
        ({"temperature": 3}, openai.UnprocessableEntityError),
    ],
)
async def test_invalid_input_is_rejected_and_the_server_keeps_serving(
    client: openai.AsyncOpenAI, change: Any, error: type[openai.APIStatusError]
) -> None:
    with pytest.raises(error) as caught:
        await client.chat.completions.create(**{**STORY, **change})
    assert 400 <= caught.value.status_code < 500
    completion = await client.chat.completions.create(**{**STORY, "max_tokens": 2})
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 2


@pytest.mark.parametrize(
    "prompt", ["Hello  there", "<s>[INST] Hi </s><s> h\u00e9 \u65e5\U0001f999 [/INST]", " a", "<s><s></s>"]
)
async def test_echoed_prompt_equals_the_sent_prompt_with_matching_offsets(
    client: openai.AsyncOpenAI, prompt: str
) -> None:
    completion = await client.completions.create(
        model=STORY["model"], prompt=prompt, echo=True, logprobs=0, max_tokens=3, temperature=0
    )
    (choice,) = completion.choices
    assert choice.text.startswith(prompt)
    assert choice.logprobs is not None
    tokens, offsets = choice.logprobs.tokens, choice.logprobs.text_offset
    assert tokens is not None
    assert offsets is not None
    whole = [n for n, token in enumerate(tokens) if "\ufffd" not in token]
    assert [choice.text[offsets[n] : offsets[n] + len(tokens[n])] for n in whole] == [tokens[n] for n in whole]
    chunks = [
        chunk.choices[0].text
        async for chunk in await client.completions.create(
            model=STORY["model"], prompt=prompt, echo=True, max_tokens=3, temperature=0, stream=True
        )
        if chunk.choices
    ]
    assert "".join(chunks) == choice.text
