"""DeepInfra's OpenAI-compatible routes with the demo model."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from httpx2 import AsyncClient
from openai import AsyncOpenAI

from corral.bootstrap import Server, build
from corral.catalog.catalog import DEMO, demo_checkpoint
from corral.settings import load_settings
from corral.text.load import load_tokenizer
from tests.doors.deepinfra.native import HELLO, PATH, infer
from tests.doors.live_server import SECRET, LiveServer, serving
from tests.doors.scripted_predictions import MODEL

pytestmark = pytest.mark.anyio

CHAT = "/v1/openai/chat/completions"
COMPLETIONS = "/v1/openai/completions"
USER = {"role": "user", "content": "Hello!"}
JOKE = {"role": "user", "content": "Tell me a joke"}
ASKED: dict[str, Any] = {"model": MODEL, "messages": [USER], "temperature": 0}
HELLO_TOKENS = 5
"""Tokens of ``[INST] Hello! [/INST]`` with BOS in the demo tokenizer (10 in Llama's)."""


@pytest.fixture(scope="module")
async def client(live: LiveServer) -> AsyncIterator[AsyncOpenAI]:
    """OpenAI client with DeepInfra's base URL."""
    made = AsyncOpenAI(base_url=f"{live.url}/v1/openai", api_key=SECRET, max_retries=0, timeout=60)
    async with made:
        yield made


async def chat(http: AsyncClient, path: str = CHAT, **fields: Any) -> dict[str, Any]:
    response = await http.post(path, json={**ASKED, **fields})
    assert response.status_code == 200, response.text
    return response.json()


def content(answer: dict[str, Any], choice: int = 0) -> str:
    return answer["choices"][choice]["message"]["content"]


async def chunks_of(http: AsyncClient, **fields: Any) -> list[dict[str, Any]]:
    response = await http.post(CHAT, json={**ASKED, **fields, "stream": True})
    lines = [line for line in response.text.split("\n") if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


async def test_openai_client_reports_a_wrong_key(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.AuthenticationError, match="not valid"):
        await client.with_options(api_key="wrong").chat.completions.create(**ASKED)


async def test_chat_completion_has_consistent_usage_and_cost(client: AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(**ASKED)
    assert re.fullmatch(r"chatcmpl-[0-9a-f]{32}", answer.id)
    assert answer.model == MODEL
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    cost = (usage.prompt_tokens * 350 + usage.completion_tokens * 400) / 10**9
    assert usage.estimated_cost == pytest.approx(cost, abs=0)
    assert answer.choices[0].message.content.startswith(" Hello!")


async def test_stream_ends_once_with_usage_and_without_eos(client: AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(**ASKED, stream=True)
    chunks = [chunk async for chunk in stream]
    assert all(len(chunk.choices) == 1 for chunk in chunks)
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [*[None] * (len(chunks) - 1), "stop"]
    assert chunks[-1].usage is not None
    assert chunks[-1].choices[0].delta.content is None
    assert all(isinstance(chunk.choices[0].delta.content, str) for chunk in chunks[:-1])
    assert "</s>" not in str(chunks)


async def test_stream_options_control_usage_chunks(http: AsyncClient) -> None:
    without = await chunks_of(http, stream_options={"include_usage": False})
    assert not any(chunk.get("usage") for chunk in without)
    always = await chunks_of(http, stream_options={"continuous_usage_stats": True})
    assert all(chunk["usage"]["prompt_tokens"] == HELLO_TOKENS for chunk in always)
    assert all(chunk["choices"] for chunk in [*without, *always])


async def test_stream_and_whole_answer_have_the_same_text(http: AsyncClient) -> None:
    whole = content(await chat(http))
    streamed = await chunks_of(http)
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in streamed) == whole
    assert whole.startswith(" ")


async def test_routes_without_the_openai_prefix_are_equivalent(http: AsyncClient) -> None:
    assert content(await chat(http, "/v1/chat/completions")) == content(await chat(http))
    body = {"model": MODEL, "prompt": HELLO["input"], "temperature": 0}
    texts = [
        (await http.post(path, json=body)).json()["choices"][0]["text"] for path in (COMPLETIONS, "/v1/completions")
    ]
    assert texts[0] == texts[1] == (await infer(http))["results"][0]["generated_text"]


async def test_chat_template_accepts_a_system_message_anywhere(http: AsyncClient) -> None:
    async def prompt_tokens(*messages: dict[str, str]) -> int:
        return (await chat(http, messages=messages, max_tokens=1))["usage"]["prompt_tokens"]

    async def raw_tokens(text: str) -> int:
        return (await infer(http, input=text, max_new_tokens=1))["num_input_tokens"]

    system, assistant = {"role": "system", "content": "Be brief."}, {"role": "assistant", "content": "Hi."}
    folded = "[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHello! [/INST] Hi. </s><s>[INST] Tell me a joke [/INST]"
    counts = {
        await prompt_tokens(*order)
        for order in (
            [system, USER, assistant, JOKE],
            [USER, system, assistant, JOKE],
            [USER, assistant, system, JOKE],
            [USER, assistant, JOKE, system],
        )
    }
    assert counts == {await raw_tokens(folded)}
    assert await prompt_tokens(USER) == HELLO_TOKENS == await raw_tokens("[INST] Hello! [/INST]")
    two_turns = "[INST] Hello! [/INST] Hi. </s><s>[INST] Tell me a joke [/INST]"
    as_chat = await chat(http, messages=[USER, assistant, JOKE])
    assert as_chat["usage"]["prompt_tokens"] == await raw_tokens(two_turns)
    assert content(as_chat) == (await infer(http, input=two_turns))["results"][0]["generated_text"]


async def test_content_parts_names_unknown_keys_and_developer_role_are_accepted(http: AsyncClient) -> None:
    plain = content(await chat(http))
    parts = {
        "role": "user",
        "content": [{"type": "text", "text": "Hel"}, {"type": "text", "text": "lo!"}],
        "name": None,
    }
    assert content(await chat(http, messages=[parts], request_timeout=3, unknown={"a": 1})) == plain
    developer = await chat(http, messages=[{"role": "developer", "content": "Be brief."}, USER])
    system = await chat(http, messages=[{"role": "system", "content": "Be brief."}, USER])
    assert content(developer) == content(system)
    history = [USER, {"role": "assistant", "content": "Hi.", "tool_calls": []}, JOKE]
    assert content(await chat(http, messages=history))


async def test_a_final_assistant_message_is_continued(http: AsyncClient) -> None:
    whole = content(await chat(http, messages=[JOKE]))
    begun = {"role": "assistant", "content": "Why did the llama"}
    continued = content(await chat(http, messages=[JOKE, begun]))
    assert begun["content"] + continued == whole.strip()


async def test_tools_are_405_but_an_empty_list_is_accepted(http: AsyncClient) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    refused = await http.post(CHAT, json={**ASKED, "tools": [tool]})
    assert refused.status_code == 405
    assert refused.json()["error"] == {
        "message": f"Tool calling is not supported for model: {MODEL}",
        "type": "invalid_request_error",
        "param": "tools",
        "code": None,
    }
    assert await chat(http, tools=[], tool_choice="none", max_tokens=1)


async def test_response_formats_are_enforced(http: AsyncClient) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
    schema["additionalProperties"] = False
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    assert type(json.loads(content(await chat(http, response_format=wanted)))["a"]) is bool
    any_object = await chat(http, response_format={"type": "json_object"}, max_tokens=200)
    assert content(any_object).lstrip().startswith("{")
    if any_object["choices"][0]["finish_reason"] == "stop":
        assert isinstance(json.loads(content(any_object)), dict)


async def test_two_choices_are_indexed_and_five_are_rejected(http: AsyncClient) -> None:
    answer = await chat(http, n=2, temperature=1, seed=1)
    assert [choice["index"] for choice in answer["choices"]] == [0, 1]
    one = await chat(http, n=1, temperature=1, seed=1)
    other = await chat(http, n=1, temperature=1, seed=2)
    assert [content(answer), content(answer, 1)] == [content(one), content(other)]
    both = one["usage"]["completion_tokens"] + other["usage"]["completion_tokens"]
    assert answer["usage"]["completion_tokens"] == both
    assert (await http.post(CHAT, json={**ASKED, "n": 5})).status_code == 422


async def test_a_seed_fixes_the_text(http: AsyncClient) -> None:
    texts = [content(await chat(http, temperature=2, seed=seed, max_tokens=30)) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


async def test_logprobs_have_one_entry_per_token(http: AsyncClient) -> None:
    answer = await chat(http, logprobs=True, top_logprobs=1, temperature=0)
    entries = answer["choices"][0]["logprobs"]["content"]
    assert len(entries) == answer["usage"]["completion_tokens"]
    assert {"token", "logprob", "top_logprobs"} <= entries[0].keys()
    assert "".join(entry["token"] for entry in entries) == content(answer)


async def test_a_chats_text_excludes_the_stop_string(http: AsyncClient) -> None:
    for stop in ("llama", ["llama"], ["llama", *(f"no such text {n}" for n in range(15))]):
        answer = await chat(http, messages=[JOKE], stop=stop)
        assert content(answer) == " Why did the "
        assert answer["choices"][0]["finish_reason"] == "stop"


async def test_too_long_prompt_is_400_and_max_tokens_is_clamped(
    http: AsyncClient,
) -> None:
    token = next(
        text for text in ("a", "the", "x") if len(load_tokenizer(demo_checkpoint()).encode(f"{text} " * 50)) >= 50
    )
    long = f"{token} " * 5000
    for path, body in (
        (CHAT, {**ASKED, "messages": [{"role": "user", "content": long}]}),
        (COMPLETIONS, {"model": MODEL, "prompt": long}),
        (PATH, {"input": long}),
    ):
        refused = await http.post(path, json=body)
        assert refused.status_code == 400
        numbers = [int(number) for number in re.findall(r"\d+", refused.text) if int(number) > 1000]
        assert 4096 in numbers
        assert max(numbers) >= 5000
    ids = [1, *[300] * 3999]
    fits = (await http.post(COMPLETIONS, json={"model": MODEL, "prompt": ids, "max_tokens": 500, "logprobs": 0})).json()
    assert fits["usage"]["prompt_tokens"] == 4000
    assert fits["usage"]["total_tokens"] <= 4096
    if fits["usage"]["total_tokens"] == 4096:
        assert fits["choices"][0]["finish_reason"] == "length"


async def test_max_tokens_of_one_returns_one_token(http: AsyncClient) -> None:
    answer = await chat(http, max_tokens=1)
    assert answer["usage"]["completion_tokens"] == 1
    assert answer["choices"][0]["finish_reason"] == "length"


async def test_an_unknown_model_is_404_and_a_wrong_type_422(client: AsyncOpenAI, http: AsyncClient) -> None:
    with pytest.raises(openai.NotFoundError, match="not found"):
        await client.chat.completions.create(model="a/b", messages=[USER])
    wrong = await http.post(CHAT, json={**ASKED, "temperature": "warm"})
    assert wrong.status_code == 422
    assert wrong.json()["detail"][0]["loc"][0] == "body"


async def test_client_disconnect_frees_its_run(http: AsyncClient, built_server: Server) -> None:
    body = {**HELLO, "response_format": {"type": "regex", "regex": "[ab]{500}"}, "stream": True}
    async with http.stream("POST", PATH, json=body) as response:
        assert response.status_code == 200
        await anext(response.aiter_lines())
        prediction_id = response.headers["corral-prediction"]
    async with asyncio.timeout(60):
        while built_server.engine.stats().running:
            await asyncio.sleep(0.01)
    caller = await built_server.account_services.keys.authenticate(SECRET)
    assert caller is not None
    stored = await built_server.predictions.wait(caller, prediction_id, timeout_s=60)
    assert (stored.status, stored.stopped_by) == ("canceled", "disconnect")


async def test_completions_support_echo_token_ids_and_logprobs(http: AsyncClient) -> None:
    body = {"model": MODEL, "temperature": 0, "max_tokens": 4}
    echoed = (await http.post(COMPLETIONS, json={**body, "prompt": "Hello!", "echo": True, "logprobs": 0})).json()
    choice = echoed["choices"][0]
    assert choice["text"].lstrip().startswith("Hello!")
    assert len(choice["logprobs"]["tokens"]) == len(choice["logprobs"]["token_logprobs"])
    ids = [1, *load_tokenizer(demo_checkpoint()).encode(HELLO["input"])]
    by_ids = (await http.post(COMPLETIONS, json={**body, "prompt": ids})).json()
    by_text = (await http.post(COMPLETIONS, json={**body, "prompt": HELLO["input"]})).json()
    assert by_ids["choices"][0]["text"] == by_text["choices"][0]["text"]


async def test_run_limit_of_one_model_does_not_affect_another(tmp_path: Path) -> None:
    chosen = {"model": DEMO, "data_dir": tmp_path, "api_key": SECRET, "concurrent_per_model": 2}
    made = build(load_settings(chosen, {}), lambda _: None)
    long = {"input": {"prompt": "Hello", "max_tokens": 3500, "min_tokens": 3500}}
    async with made.run():
        await made.engine.ready()
        async with serving(made.app) as live, live.http() as http:
            running = [await http.post(f"/v1/models/{MODEL}/predictions", json=long) for _ in range(2)]
            assert [each.status_code for each in running] == [201, 201]
            for path, body in ((PATH, HELLO), (CHAT, ASKED)):
                refused = await http.post(path, json=body)
                assert refused.status_code == 429
                assert "Rate limited" in refused.text
                assert int(refused.headers["retry-after"]) >= 1
            other = await http.post("/v1/inference/meta-llama/Llama-2-13b-chat-hf", json=HELLO)
            assert other.status_code == 200
            for each in running:
                assert (await http.post(each.json()["urls"]["cancel"])).status_code == 200
            assert (await http.post(PATH, json=HELLO)).status_code == 200


async def test_settings_can_reproduce_the_2023_defaults(tmp_path: Path, http: AsyncClient) -> None:
    chosen = {
        "model": DEMO,
        "data_dir": tmp_path,
        "api_key": SECRET,
        "deepinfra_repetition_penalty": 1.2,
        "deepinfra_full_text": True,
        "deepinfra_stream_done": True,
        "deepinfra_stream_eos_text": True,
    }
    made = build(load_settings(chosen, {}), lambda _: None)
    async with made.run():
        await made.engine.ready()
        async with serving(made.app) as live, live.http() as strict:
            unset = await infer(strict)
            penalized = await infer(http, repetition_penalty=1.2)
            assert unset["results"][0]["generated_text"] == HELLO["input"] + penalized["results"][0]["generated_text"]
            response = await strict.post(PATH, json={**HELLO, "stream": True})
            assert response.text.endswith("data: [DONE]\n\n")
            last = json.loads(response.text.split("\n\n")[-3].removeprefix("data: "))
            assert last["generated_text"] == unset["results"][0]["generated_text"]


async def test_the_same_prompt_seed_and_parameters_give_the_same_tokens_on_every_route(
    http: AsyncClient, built_server: Server
) -> None:
    caller = await built_server.account_services.keys.authenticate(SECRET)
    assert caller is not None
    sampled = {"temperature": 1.5, "top_p": 0.95, "top_k": 40, "seed": 77, "repetition_penalty": 1.1}
    native = await http.post(PATH, json={**HELLO, **sampled, "max_new_tokens": 40})
    shared = {"model": MODEL, **sampled, "max_tokens": 40}
    chatted = await http.post(CHAT, json={**shared, "messages": [USER]})
    completed = await http.post(COMPLETIONS, json={**shared, "prompt": HELLO["input"]})
    digests: set[str] = set()
    for response in (native, chatted, completed):
        stored = await built_server.predictions.get(caller, response.headers["corral-prediction"])
        assert stored.receipt is not None
        digests.add(stored.receipt["tokens_digest"])
    assert len(digests) == 1
    texts = {content(chatted.json()), completed.json()["choices"][0]["text"]}
    assert texts == {native.json()["results"][0]["generated_text"]}
