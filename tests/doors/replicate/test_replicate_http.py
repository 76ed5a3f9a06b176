"""The Replicate API over HTTP with the demo model: objects, headers, streams, errors."""

import time
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.doors.replicate.replicate_client import CHAT, RFC3339, create, get, parse, poll_until, read_stream, text_of
from tests.server.conftest import RealServer

pytestmark = pytest.mark.anyio

SHORT: dict[str, Any] = {"prompt": "What are you?", "seed": 7, "max_tokens": 40}
LONG: dict[str, Any] = {**SHORT, "min_tokens": 300, "max_tokens": 300}


async def test_create_without_prefer_returns_at_once_with_absolute_urls(server: RealServer) -> None:
    async with server.http() as http:
        begun = time.monotonic()
        answer = await http.post(f"/v1/models/{CHAT}/predictions", json={"input": LONG, "stream": True})
        took_s = time.monotonic() - begun
        body = answer.json()
        await poll_until(http, body)
    assert (answer.status_code, took_s < 1) == (201, True)
    assert answer.headers["location"] == body["urls"]["get"]
    assert answer.headers["corral-weights"] == "demo"
    assert (body["status"], body["logs"], body["error"], body["output"]) == ("starting", "", None, None)
    assert (body["model"], body["input"], body["data_removed"], body["source"]) == (CHAT, LONG, False, "api")
    assert (len(body["id"]), len(body["version"])) == (26, 64)
    assert set(body["urls"]) == {"get", "cancel", "stream", "web"}
    assert all(url.startswith(f"{server.url}/") for url in body["urls"].values())
    assert not urlsplit(body["urls"]["stream"]).path.startswith("/v1/files/")


async def test_long_enough_wait_returns_the_finished_prediction(server: RealServer) -> None:
    async with server.http() as http:
        for prefer, applied in (("wait=10", "wait=10"), ("wait", "wait"), ("wait=900", "wait=60")):
            headers = {"prefer": prefer}
            answer = await http.post("/v1/predictions", json={"version": CHAT, "input": SHORT}, headers=headers)
            body = answer.json()
            assert (answer.status_code, body["status"]) == (201, "succeeded")
            assert answer.headers["preference-applied"] == applied
            assert body["output"]
            assert RFC3339.fullmatch(body["completed_at"])
            assert body == await get(http, body)


async def test_status_output_and_times_never_go_back(server: RealServer) -> None:
    async with server.http() as http:
        seen = await poll_until(http, await create(http, CHAT, **LONG))
    order = ["starting", "processing", "succeeded"]
    statuses = [order.index(one["status"]) for one in seen]
    assert statuses == sorted(statuses)
    assert statuses[-1] == 2
    for earlier, later in pairwise(seen):
        before = earlier["output"] or []
        assert (later["output"] or [])[: len(before)] == before
        assert later["logs"].startswith(earlier["logs"])
    last = seen[-1]
    times = [last[name] for name in ("created_at", "started_at", "completed_at")]
    assert all(RFC3339.fullmatch(at) for at in times)
    assert times == sorted(times)


async def test_metrics_agree_with_each_other(server: RealServer) -> None:
    async with server.http() as http:
        begun = time.monotonic()
        body = await create(http, CHAT, prefer="wait", **LONG)
        wall_s = time.monotonic() - begun
    metrics = body["metrics"]
    assert 0 < metrics["predict_time"] <= wall_s
    assert metrics["predict_time"] <= metrics["total_time"] <= wall_s + 0.01
    assert 0 <= metrics["time_to_first_token"] <= metrics["predict_time"]
    assert isinstance(metrics["input_token_count"], int)
    assert metrics["output_token_count"] == 300
    assert metrics["tokens_per_second"] == pytest.approx(300 / metrics["predict_time"])


async def test_ids_are_on_every_event_ordered_and_unique_and_done_is_last(server: RealServer) -> None:
    async with server.http() as http:
        created = await create(http, CHAT, **LONG)
        live = await read_stream(http, created)
        body = (await poll_until(http, created))[-1]
    events = parse(live.text)
    assert text_of(events) == "".join(body["output"])
    assert {event.name for event in events} == {"output", "done"}
    assert [event.name for event in events].count("done") == 1
    assert (events[-1].name, events[-1].data) == ("done", "{}")
    numbers = [event.number for event in events]
    assert numbers == sorted(set(numbers))
    seconds = {event.id.partition(":")[0] for event in events}
    assert len(seconds) == 1


async def test_stream_url_needs_no_key_and_a_modified_url_is_rejected(server: RealServer) -> None:
    async with server.http(key=None) as anonymous_client, server.http() as http:
        mine, other = [await create(http, CHAT, prefer="wait", **SHORT) for _ in range(2)]
        url = mine["urls"]["stream"]
        answer = await anonymous_client.get(url, headers={"accept": "text/event-stream"})
        assert answer.status_code == 200
        assert text_of(parse(answer.text)) == "".join(mine["output"])
        token, other_token = url.rpartition("/")[2], other["urls"]["stream"].rpartition("/")[2]
        assert len(token) == 52
        assert token != other_token
        wrong = token[:-1] + ("a" if token[-1] != "a" else "b")
        for bad in (wrong, other_token, token[:-1], token.upper(), "%C3%A9", "x"):
            refused = await anonymous_client.get(url.replace(token, bad))
            assert refused.status_code == 404, bad
            assert refused.headers["content-type"] == "application/problem+json"
        assert (await anonymous_client.get(mine["urls"]["get"])).status_code == 401


async def test_stream_headers_differ_from_a_page(server: RealServer) -> None:
    async with server.http() as http:
        answer = await read_stream(http, await create(http, CHAT, **SHORT))
    assert answer.headers["content-type"].partition(";")[0] == "text/event-stream"
    assert "no-store" in answer.headers["cache-control"]
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "content-encoding" not in answer.headers


async def test_stream_is_identical_late_repeated_and_resumed(server: RealServer) -> None:
    async with server.http() as http:
        body = (await poll_until(http, await create(http, CHAT, **LONG)))[-1]
        whole = "".join(body["output"])
        first, second = [parse((await read_stream(http, body)).text) for _ in range(2)]
        assert first == second
        assert text_of(first) == whole
        created = await create(http, CHAT, **LONG)
        live = parse((await read_stream(http, created)).text)
        for event in live[:-1:30]:
            rest = parse((await read_stream(http, created, after=event.id)).text)
            assert whole.endswith(text_of(rest))
            shown = text_of(live[: live.index(event) + 1])
            assert shown + text_of(rest) == whole
            assert all(later.number > event.number for later in rest)
        done = await read_stream(http, created, after=live[-1].id)
        assert (done.status_code, done.content) == (204, b"")
        for junk in ("", "x", "0:4", f"{live[0].id}x"):
            assert text_of(parse((await read_stream(http, created, after=junk)).text)) == whole


async def test_event_id_with_a_wrong_digest_is_an_error(server: RealServer) -> None:
    async with server.http() as http:
        created = (await poll_until(http, await create(http, CHAT, **SHORT)))[-1]
        whole = parse((await read_stream(http, created)).text)
        bare, digest = whole[0].id.split("-")
        assert parse((await read_stream(http, created, after=bare)).text) == whole[1:]
        second, number = bare.split(":")
        others = [f"{bare}-{int(digest, 16) ^ 1:08x}", f"{second}:{int(number) + 40_000}-{digest}"]
        for other in others:  # another token, and a position beyond the end
            error, done = parse((await read_stream(http, created, after=other)).text)
            assert (error.name, done.name, done.data) == ("error", "done", '{"reason":"error"}')
            assert "differs from what this stream sent before" in error.data
            assert parse((await read_stream(http, created, after=error.id)).text) == [done]
            assert (await read_stream(http, created, after=done.id)).status_code == 204


async def test_cancel_ignores_its_body_and_finished_predictions(server: RealServer) -> None:
    async with server.http() as http:
        running = await create(http, CHAT, **{**LONG, "min_tokens": 3000, "max_tokens": 3000})
        await poll_until(http, running, "processing")
        canceled = await http.post(running["urls"]["cancel"], headers={"content-type": "application/json"})
        assert (canceled.status_code, canceled.json()["status"]) == (200, "canceled")
        assert set(canceled.json()["metrics"]) >= {"predict_time", "total_time"}
        assert (await get(http, running))["metrics"] == canceled.json()["metrics"]
        succeeded = await create(http, CHAT, prefer="wait", **SHORT)
        for content in (b"", b"{}", b"junk"):
            again = await http.post(succeeded["urls"]["cancel"], content=content)
            assert (again.status_code, again.json()) == (200, succeeded)
        unknown = await http.post(f"/v1/predictions/{'0' * 26}/cancel")
        assert (unknown.status_code, unknown.json()["title"]) == (404, "Prediction not found")


async def test_failed_run_streams_its_reason(server: RealServer) -> None:
    async with server.http() as http:
        failed = await create(http, CHAT, prompt="word " * 5000)
        events = parse((await read_stream(http, failed)).text)
        assert failed["status"] == "failed"
        assert [event.name for event in events] == ["error", "done"]
        assert events[0].data == f'{{"detail":"{failed["error"]}"}}'
        assert events[1].data == '{"reason":"error"}'
        rest = parse((await read_stream(http, failed, after=events[0].id)).text)
        assert rest == events[1:]
        assert (await read_stream(http, failed, after=events[1].id)).status_code == 204
        assert (failed["metrics"]["predict_time"], failed["logs"], failed["output"]) == (0, "", None)


async def refused(server: RealServer, body: Any, path: str = f"/v1/models/{CHAT}/predictions") -> tuple[int, Any]:
    async with server.http() as http:
        content = body if isinstance(body, bytes) else None
        answer = await http.post(path, content=content, json=None if content is not None else body)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == answer.status_code
    return answer.status_code, answer.json()


async def test_invalid_input_is_rejected_by_field(server: RealServer) -> None:
    status, body = await refused(server, {"input": {"temperature": 9}})
    assert (status, body["title"]) == (422, "Input validation failed")
    assert body["detail"] == "- input: prompt is required\n- input.temperature: Must be less than or equal to 5\n"
    assert body["invalid_fields"] == [
        {"type": "required", "field": "input", "description": "prompt is required"},
        {"type": "number_lte", "field": "input.temperature", "description": "Must be less than or equal to 5"},
    ]
    for given in ({"temperature": "hot"}, {"top_p": -1}, {"max_tokens": 0}):
        status, body = await refused(server, {"input": {"prompt": "Hi", **given}})
        assert (status, len(body["invalid_fields"])) == (422, 1)
    for unknown in ("nope", "0" * 64, f"{CHAT}:nope", "nobody/nothing", "latest", ":", "/"):
        status, body = await refused(server, {"version": unknown, "input": SHORT}, "/v1/predictions")
        assert (status, body["title"]) == (422, "Invalid version or not permitted"), unknown
        assert body["detail"].startswith("The specified version does not exist")
    assert (await refused(server, b"{"))[0] == 400
    assert (await refused(server, {"input": SHORT}, "/v1/models/no/body/predictions"))[0] == 404


async def test_unknown_keys_are_rejected_at_the_top_level_only(server: RealServer) -> None:
    status, body = await refused(server, {"model": CHAT, "version": CHAT, "input": SHORT}, "/v1/predictions")
    assert (status, body["detail"]) == (422, "- Additional property model is not allowed\n")
    assert (await refused(server, []))[1]["invalid_fields"][0]["type"] == "invalid_type"
    assert (await refused(server, {}))[1]["invalid_fields"][0]["description"] == "input is required"
    for key, value in {
        "webhook": "ftp://x", "webhook_completed": 1, "webhook_events_filter": ["begin"], "stream": "yes",
    }.items():  # fmt: skip
        status, body = await refused(server, {"input": SHORT, key: value})
        assert (status, body["invalid_fields"][0]["field"]) == (422, key)
    async with server.http() as http:
        liberal = await create(http, CHAT, prefer="wait", **SHORT, repetition_penalty=1.15, nobody="knows", debug=True)
        plain = await create(http, CHAT, prefer="wait", **SHORT)
        assert liberal["status"] == "succeeded"
        assert liberal["input"]["nobody"] == "knows"
        assert plain["output"]


async def test_token_limits_are_exact(server: RealServer) -> None:
    async with server.http() as http:
        most = await create(http, CHAT, prefer="wait", **{**SHORT, "max_tokens": 5, "min_tokens": 5})
        least = await create(http, CHAT, prefer="wait", prompt="Hi", min_new_tokens=90, max_new_tokens=95)
    assert most["metrics"]["output_token_count"] == 5
    assert 90 <= least["metrics"]["output_token_count"] <= 95


async def test_token_limits_under_two_names_must_agree(server: RealServer) -> None:
    async with server.http() as http:
        for limits, code in (
            ({"max_tokens": 20, "max_new_tokens": 30}, "E1102 InvalidArgumentMaxTokens"),
            ({"min_tokens": 2, "min_new_tokens": 3}, "E1101 InvalidArgumentMinTokens"),
        ):
            failed = await create(http, CHAT, prefer="wait", prompt="Hi", **limits)
            assert (failed["status"], failed["error"].startswith(code)) == ("failed", True)
        agreed = await create(http, CHAT, prefer="wait", prompt="Hi", max_tokens=3, max_new_tokens=3)
    assert agreed["metrics"]["output_token_count"] <= 3


async def test_output_ends_before_a_stop_sequence_wherever_tokens_end(server: RealServer) -> None:
    async with server.http() as http:
        free = await create(http, CHAT, prefer="wait", **SHORT)
        text = "".join(free["output"])
        stop = text[7:12]
        stopped = await create(http, CHAT, prefer="wait", **SHORT, stop_sequences=f"END,{stop}")
        assert "".join(stopped["output"]) == text[: text.index(stop)]
        tail = await create(http, CHAT, prefer="wait", **SHORT, stop_sequences=text[-1] + "never")
        assert "".join(tail["output"]) == text


async def test_stripped_leading_space_does_not_match_a_stop_sequence(server: RealServer) -> None:
    async with server.http() as http:
        text = "".join((await create(http, CHAT, prefer="wait", **SHORT))["output"])
        word, begins = text.split(" ")[0], f" {text[:6]}"
        assert word
        assert begins not in text
        for stops, shown in ((" ", word), ([" "], word), (begins, text), ([begins, " "], word), (word, "")):
            stopped = await create(http, CHAT, prefer="wait", **SHORT, stop_sequences=stops)
            assert ("".join(stopped["output"]), stopped["input"]["stop_sequences"]) == (shown, stops)
            assert text_of(parse((await read_stream(http, stopped)).text)) == shown


async def test_model_prediction_list_contains_only_its_predictions(server: RealServer) -> None:
    async with server.http() as http:
        of_chat, of_other = [await create(http, model, prefer="wait", **SHORT) for model in (CHAT, "corral/demo")]
        for model, mine, other in ((CHAT, of_chat, of_other), ("corral/demo", of_other, of_chat)):
            for prefix in ("/v1", "", "/v1/v1"):
                page = (await http.get(f"{prefix}/models/{model}/predictions")).json()
                assert page["results"][0] == await get(http, mine)
                assert other["id"] not in [one["id"] for one in page["results"]]
                assert {one["model"] for one in page["results"]} == {model}
        path = f"/v1/models/{CHAT}/predictions"
        none = await http.get(path, params={"created_before": of_chat["created_at"], "created_after": "2100-01-01"})
        assert none.json() == {"previous": None, "next": None, "results": []}
        unknown = await http.get("/v1/models/no/body/predictions")
        assert (unknown.status_code, unknown.json()["title"]) == (404, "Model not found")
        assert (await http.get(path, params={"cursor": "x"})).status_code == 422
        assert (await http.put(path)).headers["allow"] == "GET, HEAD, OPTIONS, POST"


async def test_templates_are_expanded_or_rejected_with_one_bos(server: RealServer) -> None:
    async with server.http() as http:
        default = await create(http, CHAT, prefer="wait", prompt="Hi", system_prompt="Be kind.", max_tokens=2)
        assert "Formatted prompt: `<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nHi [/INST]`\n" in default["logs"]
        assert default["logs"].count("<s>") == 1
        bare, marked = [
            await create(http, CHAT, prefer="wait", prompt=prompt, prompt_template="{prompt}", max_tokens=2)
            for prompt in ("Hi", "<s>Hi")
        ]
        assert bare["metrics"]["input_token_count"] == marked["metrics"]["input_token_count"] == 2
        for template, code in (("none", "E1003"), ("{foo}{prompt}", "E1004")):
            failed = await create(http, CHAT, prompt="Hi", prompt_template=template)
            assert (failed["status"], failed["error"][:5]) == ("failed", code)
        assert (await create(http, CHAT, prompt="", prompt_template="{prompt}"))["error"].startswith("E1001")


async def test_performance_is_logged_on_request(server: RealServer) -> None:
    async with server.http() as http:
        asked = await create(http, CHAT, prefer="wait", **SHORT, log_performance_metrics=True)
        plain = await create(http, CHAT, prefer="wait", **SHORT, log_performance_metrics=False)
    lines = asked["logs"].splitlines()[-4:]
    assert lines[0] == f"Tokens processed: {asked['metrics']['output_token_count']}"
    for line, words in zip(lines[1:], ("tokens per second", "execution time", "time to first token"), strict=True):
        assert line.startswith(f"Serverside {words}: ")
        float(line.split(": ")[1].removesuffix(" seconds"))
    assert "Serverside" not in plain["logs"]


async def test_search_readme_examples_and_covers_are_answered(server: RealServer) -> None:
    async with server.http() as http:
        for body in (b"llama", b'"llama"', b' "Llama" '):
            found = (await http.request("QUERY", "/v1/models", content=body)).json()["results"]
            assert CHAT in [f"{one['owner']}/{one['name']}" for one in found]
        assert (await http.request("QUERY", "/v1/models", content=b"\xff\xfe nothing like it")).status_code == 400
        searched = (await http.get("/v1/search", params={"query": "llama", "limit": "1"})).json()
        assert (len(searched["models"]), searched["query"]) == (1, "llama")
        assert (await http.get("/v1/search?limit=0")).status_code == 422
        readme = await http.get(f"/v1/models/{CHAT}/readme")
        assert readme.headers["content-type"].startswith("text/markdown")
        model = (await http.get(f"/v1/models/{CHAT}")).json()
        (example, *_) = (await http.get(f"/v1/models/{CHAT}/examples")).json()["results"]
        assert example == model["default_example"] == await get(http, example)
        assert (model["id"], model["object"], model["is_official"]) == (CHAT, "model", True)
        cover = await http.get(model["cover_image_url"])
    assert (cover.status_code, cover.headers["content-type"]) == (200, "image/svg+xml")
    assert cover.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in cover.headers["content-security-policy"]


async def test_no_route_redirects_and_answers_are_not_cacheable(server: RealServer) -> None:
    async with server.http() as http:
        body = await create(http, CHAT, prefer="wait", **SHORT)
        for prefix in ("/v1", "", "/v1/v1"):
            for path in ("/predictions", f"/predictions/{body['id']}", "/models", "/account", "/collections"):
                answer = await http.get(prefix + path)
                assert answer.status_code == 200, prefix + path
                assert answer.headers["cache-control"] == "no-store"
                assert answer.headers["ratelimit-remaining"] == "2999"
                head = await http.head(prefix + path)
                assert (head.status_code, head.content) == (200, b"")
                options = await http.options(prefix + path)
                assert (options.status_code, options.headers["allow"][:9]) == (204, "GET, HEAD")
                assert (await http.get(f"{prefix}{path}/")).status_code in (404, 405)
            posted = await http.post(f"{prefix}/models/{CHAT}/predictions", json={"input": {**SHORT, "max_tokens": 1}})
            assert posted.status_code == 201
        for method, path in (("POST", "/v1/models"), ("GET", "/v1/trainings"), ("DELETE", f"/v1/deployments/{CHAT}")):
            missing = await http.request(method, path)
            assert (missing.status_code, missing.json()["title"]) == (501, "Not offered")
