"""Native inference API with the demo model."""

import gzip
import json
import re
from typing import Any

import pytest
from httpx2 import AsyncClient

from corral.catalog.catalog import demo_checkpoint
from corral.text.load import load_tokenizer
from tests.doors.deepinfra.native import HELLO, PATH, events_of, infer, text_of
from tests.doors.live_server import SECRET, LiveServer
from tests.doors.scripted_predictions import MODEL

pytestmark = pytest.mark.anyio

JOKE = "[INST] Tell me a joke [/INST]"


async def test_bearer_scheme_is_case_insensitive_and_a_missing_or_wrong_key_is_401(live: LiveServer) -> None:
    async with live.http(key=None) as http:
        for scheme in ("bearer", "Bearer", "BEARER"):
            headers = {"authorization": f"{scheme} {SECRET}"}
            assert (await http.post(PATH, json=HELLO, headers=headers)).status_code == 200
        for headers in ({}, {"authorization": "Bearer wrong"}, {"xi-api-key": "wrong"}):
            for path in (PATH, "/v1/openai/chat/completions", "/deploy/list"):
                method = "GET" if path == "/deploy/list" else "POST"
                refused = await http.request(method, path, headers=headers)
                assert refused.status_code == 401
                assert refused.json()["error"]


async def test_alternative_key_header_is_read_without_authorization(live: LiveServer) -> None:
    async with live.http(key=None) as http:
        assert (await http.post(PATH, json=HELLO, headers={"xi-api-key": SECRET})).status_code == 200
        both = {"xi-api-key": SECRET, "authorization": "Bearer wrong"}
        assert (await http.post(PATH, json=HELLO, headers=both)).status_code == 401
        for path in ("/v1/models", f"/v1/models/{MODEL}", "/v1/openai/models", f"/v1/openai/models/{MODEL}"):
            assert (await http.get(path, headers={"xi-api-key": SECRET})).status_code == 200
        chat = {"model": MODEL, "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 1}
        for path in ("/v1/chat/completions", "/v1/openai/chat/completions"):
            assert (await http.post(path, json=chat, headers={"xi-api-key": SECRET})).status_code == 200
            assert (await http.post(path, json=chat, headers=both)).status_code == 401


async def test_a_gzip_body_is_read_on_chat_completions_and_native(http: AsyncClient) -> None:
    chat = {"model": MODEL, "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 4}
    completion = {"model": MODEL, "prompt": "Hello!", "max_tokens": 4}
    for path, body in (
        ("/v1/openai/chat/completions", chat),
        ("/v1/openai/completions", completion),
        (PATH, {**HELLO, "max_new_tokens": 4}),
    ):
        packed = gzip.compress(json.dumps(body).encode())
        response = await http.post(path, content=packed, headers={"content-encoding": "gzip"})
        assert response.status_code == 200, response.text


async def test_json_is_read_without_a_content_type_and_under_a_wrong_one(http: AsyncClient) -> None:
    body = json.dumps({**HELLO, "max_new_tokens": 4}).encode()
    assert (await http.post(PATH, content=body)).status_code == 200
    as_curl_sends_it = {"content-type": "application/x-www-form-urlencoded"}
    assert (await http.post(PATH, content=body, headers=as_curl_sends_it)).status_code == 200


async def test_unknown_paths_are_404_and_wrong_methods_405_both_in_json(http: AsyncClient) -> None:
    for path in ("/v1/inference", "/v1/inference/a/b/c", "/v1/openai", "/inference", "/deploy/a/b"):
        response = await http.post(path, json=HELLO)
        assert response.status_code == 404, path
        assert f"There is no {path} here." in str(response.json())
    wrong = await http.get(PATH)
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "OPTIONS, POST")
    assert wrong.json() == dict.fromkeys(("error", "detail"), f"{PATH} takes OPTIONS, POST; not GET.")


async def test_request_ids_have_their_shape_and_differ(http: AsyncClient) -> None:
    ids = {(await infer(http, max_new_tokens=1))["request_id"] for _ in range(8)}
    assert len(ids) == 8
    assert all(re.fullmatch(r"R[A-Za-z0-9]{23}", request_id) for request_id in ids)


async def test_generated_text_excludes_the_prompt(http: AsyncClient) -> None:
    answer = await infer(http)
    text = answer["results"][0]["generated_text"]
    assert text.startswith(" Hello!")
    assert HELLO["input"] not in text


async def test_form_and_json_give_the_same_answer(http: AsyncClient) -> None:
    as_json = await infer(http, input=JOKE, max_new_tokens=10, stream=False, stop=["</s>", "memory"], top_k=5)
    stops = ('["</s>", "memory"]',), ("</s>", "memory")
    for values in stops:
        parts = [("input", JOKE), ("temperature", "0"), ("max_new_tokens", "10"), ("stream", "false"), ("top_k", "5")]
        files = [(name, (None, value)) for name, value in [*parts, *(("stop", value) for value in values)]]
        response = await http.post(PATH, files=files)
        assert response.status_code == 200, response.text
        assert response.json()["results"] == as_json["results"]
    uploaded = await http.post(
        PATH, files=[("input", ("prompt.txt", JOKE.encode(), "text/plain")), ("temperature", (None, "0"))]
    )
    assert uploaded.json()["num_input_tokens"] == as_json["num_input_tokens"]
    for name, value in (("temperature", "warm"), ("max_new_tokens", "1.5"), ("stream", "maybe"), ("stop", "[1]")):
        refused = await http.post(PATH, files=[("input", (None, JOKE)), (name, (None, value))])
        assert refused.status_code == 422
        assert refused.json()["detail"][0]["loc"][:2] == ["body", name]


async def test_num_responses_works_without_streaming_only(http: AsyncClient) -> None:
    answer = await infer(http, temperature=1, num_responses=2, seed=3)
    assert len(answer["results"]) == 2
    one = await infer(http, temperature=1, num_responses=1, seed=3)
    assert answer["results"][0] == one["results"][0]
    assert answer["num_tokens"] > one["num_tokens"]
    refused = await http.post(PATH, json={**HELLO, "num_responses": 2, "stream": True})
    assert refused.status_code == 422
    assert refused.json()["detail"][0]["loc"] == ["body", "num_responses"]


async def test_the_text_ends_with_the_stop_string(http: AsyncClient) -> None:
    for stops in (["llama"], ["fail the", "llama"], ["a", "b", "c", " llama"], [str(n) for n in range(100, 116)]):
        answer = await infer(http, input=JOKE, stop=stops)
        text = answer["results"][0]["generated_text"]
        assert any(text.endswith(stop) for stop in stops) or stops[0] == "100"
    assert (await infer(http, input=JOKE, stop="llama"))["results"][0]["generated_text"] == " Why did the llama"
    for stops in (["a"] * 17, [""], ["a" * 257]):
        refused = await http.post(PATH, json={**HELLO, "stop": stops})
        assert refused.status_code == 422
        assert refused.json()["detail"][0]["loc"][:2] == ["body", "stop"]


async def test_defaults_come_from_settings_and_catalog(http: AsyncClient) -> None:
    unset = await infer(http, input=JOKE)
    assert unset["results"] == (await infer(http, input=JOKE, repetition_penalty=1))["results"]
    described = (await http.get(f"/models/{MODEL}")).json()
    defaults = {field["name"]: field["default"] for field in described["in_fields"]}
    assert (defaults["repetition_penalty"], defaults["max_new_tokens"]) == (1, 2048)
    nulls = {name: None for name in defaults if name not in ("input", "temperature")}
    assert (await infer(http, input=JOKE, **nulls))["results"] == unset["results"]


EDGES: dict[str, tuple[list[Any], list[Any]]] = {
    "max_new_tokens": ([1, 1_000_000, 4.0], [0, -1, 1_000_001, 1.5, "4", True]),
    "temperature": ([0, 100, 0.7], [-0.01, 100.01, "1", True]),
    "top_p": ([1e-9, 1, 0.5], [0, -0.01, 1.01]),
    "top_k": ([0, 100_000, 1], [-1, 100_001, 0.5]),
    "min_p": ([0, 1, 0.5], [-0.01, 1.01]),
    "repetition_penalty": ([0.01, 5, 1], [0.009, 5.01, 0]),
    "presence_penalty": ([-2, 2], [-2.01, 2.01]),
    "frequency_penalty": ([-2, 2], [-2.01, 2.01]),
    "num_responses": ([1, 4], [0, 5]),
    "seed": ([-(2**63), 2**63, 0], [-(2**63) - 2**11, 2**65, 0.5]),
    "stop": ([[], ["a"] * 16, "a"], [["a"] * 17, [1], 1]),
    "stream": ([False], ["no", 0]),
    "input": (["", "x"], [None, 1, ["x"]]),
    "user": (["someone"], [1]),
    "webhook": ([None], [1]),
    "response_format": (
        [{"type": "text"}, None],
        [{"type": "xml"}, {}, "json", [], {"type": "json_object", "shema": {}}],
    ),
}


async def test_range_limits_are_inclusive_and_greedy_answers_repeat(http: AsyncClient) -> None:
    described = (await http.get(f"/models/{MODEL}")).json()
    assert EDGES.keys() == {field["name"] for field in described["in_fields"]}
    for name, (inside, outside) in EDGES.items():
        for value in inside:
            response = await http.post(PATH, json={"input": "Hi", "max_new_tokens": 1, name: value})
            assert response.status_code == 200, (name, value, response.text)
        for value in outside:
            response = await http.post(PATH, json={"input": "Hi", "max_new_tokens": 1, name: value})
            assert response.status_code == 422, (name, value)
            assert response.json()["detail"][0]["loc"][:2] == ["body", name]
    off = {"top_p": 1, "top_k": 0, "repetition_penalty": 1}
    assert (await infer(http, **off))["results"] == (await infer(http, **off))["results"]
    missing = await http.post(PATH, json={})
    assert missing.json()["detail"][0] == {"loc": ["body", "input"], "msg": "Field required", "type": "missing"}


async def test_input_is_raw_and_has_one_bos(http: AsyncClient) -> None:
    count = 1 + len(load_tokenizer(demo_checkpoint()).encode("Hello!"))
    assert (await infer(http, input="Hello!", max_new_tokens=1))["num_input_tokens"] == count
    assert (await infer(http, input="<s>Hello!", max_new_tokens=1))["num_input_tokens"] == count
    turns = "[INST] Hello! [/INST] Hi </s><s>[INST] Hello! [/INST]"
    plain = turns.replace("</s><s>", "")
    with_turns = (await infer(http, input=turns, max_new_tokens=1))["num_input_tokens"]
    assert with_turns > 2
    assert with_turns != (await infer(http, input=plain, max_new_tokens=1))["num_input_tokens"]


async def test_version_and_deploy_ids_are_found_or_404(http: AsyncClient) -> None:
    answer = await infer(http)
    versions = (await http.get(f"/models/{MODEL}/versions")).json()
    assert len(versions) >= 1
    for version in versions:
        assert re.fullmatch(r"[0-9a-f]{40}", version["version"])
        again = await infer(http, path=f"{PATH}?version={version['version']}")
        assert again["results"] == answer["results"]
    deploy = next(each for each in (await http.get("/deploy/list")).json() if each["model_name"] == MODEL)
    assert re.fullmatch(r"[A-Za-z0-9]{16}", deploy["deploy_id"])
    again = await infer(http, path=f"/v1/inference/deploy/{deploy['deploy_id']}")
    assert again["results"] == answer["results"]
    for path in (f"{PATH}?version={'0' * 40}", "/v1/inference/deploy/none", "/v1/inference/a/b"):
        unknown = await http.post(path, json=HELLO)
        assert unknown.status_code == 404
        assert isinstance(unknown.json()["error"], str)


async def test_stream_has_one_event_per_token_and_a_final_summary(http: AsyncClient) -> None:
    for fields, reason in (
        ({}, "eos_token"),
        ({"max_new_tokens": 5}, "length"),
        ({"stop": ["llama"]}, "stop_sequence"),
        ({"stop": ["lama f"]}, "stop_sequence"),
        ({"stop": ["no such text", "Zz"]}, "eos_token"),
        ({"temperature": 1, "seed": 7}, None),
    ):
        asked = {**HELLO, "input": JOKE, **fields}
        response = await http.post(PATH, json={**asked, "stream": True})
        events = events_of(response)
        whole = (await http.post(PATH, json=asked)).json()
        last = events[-1]
        details = last["details"]
        assert all(event["generated_text"] is None and event["details"] is None for event in events[:-1])
        assert last["generated_text"] == text_of(events) == whole["results"][0]["generated_text"]
        assert details["generated_tokens"] == len(events) == whole["num_tokens"]
        assert details["input_tokens"] == whole["num_input_tokens"]
        assert reason in (None, details["finish_reason"])
        assert details["seed"] == (7 if "seed" in fields else None)
        assert all(event["token"]["logprob"] <= 0 for event in events)
        assert last["token"]["special"] is (details["finish_reason"] == "eos_token")
        if last["token"]["special"]:
            assert last["token"] == {**last["token"], "id": 2, "text": ""}


async def test_stream_events_have_no_error_key(http: AsyncClient) -> None:
    response = await http.post(PATH, json={**HELLO, "input": JOKE, "stream": True})
    assert "error" not in response.text


async def test_multi_token_character_is_streamed_with_its_last_token(http: AsyncClient) -> None:
    asked = {**HELLO, "response_format": {"type": "regex", "regex": "\N{LLAMA}\N{SNOWMAN}é"}, "stream": True}
    events = events_of(await http.post(PATH, json=asked))
    assert text_of(events).strip() == "\N{LLAMA}\N{SNOWMAN}é"
    assert "" in [event["token"]["text"] for event in events]


async def test_response_format_is_enforced(http: AsyncClient) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
    schema["additionalProperties"] = False
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    answer = await infer(http, response_format=wanted)
    assert json.loads(answer["results"][0]["generated_text"]).keys() == {"a"}


async def test_too_long_prompt_is_400_and_max_new_tokens_is_clamped(http: AsyncClient) -> None:
    word = "llama "
    too_long = await http.post(PATH, json={"input": word * 5000})
    assert too_long.status_code == 400
    assert "4096" in too_long.json()["error"]
    fits = await infer(http, input="x" * 20, max_new_tokens=1_000_000)
    assert fits["num_input_tokens"] + fits["num_tokens"] <= 4096
