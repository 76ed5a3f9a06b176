"""Requests without a handler: unknown paths, other methods, HEAD, OPTIONS, CORS."""

import asyncio
import logging
import re
from collections.abc import Iterator

import openai
import pytest
import structlog
from fastapi.routing import iter_route_contexts

from corral.api.app import create_app
from tests.doors.known_keys import ONE_MODEL, door_dependencies
from tests.doors.live_server import LiveServer, serving
from tests.doors.scripted_predictions import CREATED, MODEL, ScriptedPredictions

pytestmark = pytest.mark.anyio

CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]}
PROBLEM = "application/problem+json"


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/chat/completions", "/v1/chat/completions"),
        ("/v1/chat/completions/", "/v1/chat/completions"),
        ("/v1//chat/completions", "/v1/chat/completions"),
        ("/v1/openai/v1/chat/completions", "/v1/chat/completions"),
        ("/v1/v1/chat/completions", "/v1/chat/completions"),
        ("/openai/v1/chat/completions", "/v1/chat/completions"),
        ("/api/v1/completions", "/v1/completions"),
        ("/openai/chat/completions", "/v1/openai/chat/completions"),
    ],
)
async def test_unknown_path_suggests_the_likely_one(server: LiveServer, path: str, meant: str) -> None:
    async with server.http() as http:
        response = await http.post(path, json=CHAT)
    assert response.status_code == 404
    message = response.json()["error"]["message"]
    assert f"There is no {path} here. Did you mean {meant}?" in message
    assert f"OpenAI clients {server.url}/v1, Replicate clients {server.url}, DeepInfra" in message


async def test_openai_client_with_another_base_url_works_or_gets_a_hint(
    server: LiveServer,
) -> None:
    async with server.openai() as client:
        listed = [model.id async for model in await client.models.list()]
    assert MODEL in listed
    async with server.openai() as client:
        client.base_url = server.url
        assert [model.id async for model in await client.models.list()] == listed
        with pytest.raises(openai.NotFoundError, match="Did you mean /v1/chat/completions"):
            await client.chat.completions.create(**CHAT)
        for base in ("/v1/openai/v1", "/openai/v1", "/api"):
            client.base_url = server.url + base
            with pytest.raises(openai.NotFoundError, match=f"OpenAI clients {server.url}/v1"):
                await client.models.list()
        client.base_url = server.url + "/v1/"
        assert [model.id async for model in await client.models.list()] == listed


@pytest.mark.parametrize("path", ["responses", "embeddings", "images/generations", "audio/speech", "threads/t/runs"])
async def test_unsupported_openai_routes_are_404_in_the_openai_format(server: LiveServer, path: str) -> None:
    async with server.http() as http:
        for method in ("POST", "GET"):
            response = await http.request(method, f"/v1/{path}", json={"model": MODEL, "input": "Hi"})
            assert response.status_code == 404
            error = response.json()["error"]
            assert (error["type"], error["code"]) == ("invalid_request_error", "unknown_url")
            assert (
                f"There is no /v1/{path} here. Of OpenAI's API this server has /v1/chat/completions" in error["message"]
            )


async def test_unknown_paths_and_methods_of_replicate_are_problem_documents(server: LiveServer) -> None:
    async with server.http() as http:
        for method, path, status in (
            ("GET", "/v1/predictions/a/b/c", 404),
            ("GET", "/predictions/a/b/c", 404),
            ("GET", "/v1/v1/deployments/a/b/c", 404),
            ("GET", "/v1/models/nobody/nothing", 404),
            ("GET", "/v1/predictions/nothing", 404),
            ("GET", "/v1/streams/a/b", 404),
            ("GET", "/v1/files/nothing/download", 404),
            ("GET", "/v1/collections/nothing", 404),
            ("PUT", "/v1/predictions", 405),
            ("DELETE", "/v1/models/a/b/predictions", 405),
            ("PUT", "/v1/models", 405),
            ("POST", "/v1/streams/a/b", 405),
        ):
            response = await http.request(method, path)
            assert (response.status_code, response.headers["content-type"]) == (status, PROBLEM), path
            body = response.json()
            assert body["status"] == status
            assert body["title"]
            assert body["detail"]


async def test_every_401_has_the_error_format_of_its_api(server: LiveServer) -> None:
    async with server.http(key="wrong") as http:
        for path in ("/v1/predictions", "/v1/models", "/v1/models/a/b/predictions", "/models"):
            response = await http.post(path, json={}) if "predictions" in path else await http.get(path)
            assert (response.status_code, response.headers["content-type"]) == (401, PROBLEM), path
            assert response.json()["status"] == 401


async def test_unknown_model_error_lists_the_allowed_models(server: LiveServer) -> None:
    both = f"Available: {MODEL}, meta/llama-2-7b-chat."
    for key, available in ((None, both), (ONE_MODEL, f"Available: {MODEL}.")):
        async with server.http(**({} if key is None else {"key": key})) as http:
            answers = [
                await http.post("/v1/chat/completions", json={**CHAT, "model": "gpt-4"}),
                await http.post("/v1/openai/completions", json={"model": "gpt-4", "prompt": "Hi"}),
                await http.post("/v1/inference/openai/gpt-4", json={"input": "Hi"}),
                await http.post("/v1/models/openai/gpt-4/predictions", json={"input": {"prompt": "Hi"}}),
                await http.get("/v1/models/openai/gpt-4"),
            ]
        for answer in answers:
            assert answer.status_code == 404
            assert available in answer.text, answer.text
    async with server.http(key=None) as http:
        assert both in (await http.get("/models/openai/gpt-4")).text


async def test_allow_lists_the_methods_of_every_router_that_has_the_path(server: LiveServer) -> None:
    async with server.http() as http:
        for path, allow in (
            ("/v1/predictions", "GET, HEAD, OPTIONS, POST"),
            ("/v1/models", "GET, HEAD, OPTIONS, POST, QUERY"),
            ("/models/a/b", "DELETE, GET, HEAD, OPTIONS, PATCH"),
            ("/health", "GET, HEAD, OPTIONS"),
            ("/v1/chat/completions", "OPTIONS, POST"),
        ):
            assert (await http.request("TRACE", path)).headers["allow"] == allow
            asked = await http.options(path)
            assert (asked.status_code, asked.headers["allow"], asked.content) == (204, allow, b"")
        assert (await http.options("/nothing/at/all")).status_code == 404


async def test_head_equals_get_without_a_body_on_every_get_route(predictions: ScriptedPredictions) -> None:
    app = create_app(door_dependencies(predictions, clock=lambda: CREATED))
    names = {"owner": MODEL.partition("/")[0], "model": MODEL.partition("/")[2], "name": MODEL.partition("/")[2]}
    paths = {route.path for route in iter_route_contexts(app.routes) if "GET" in (route.methods or ())}
    assert len(paths) > 40
    async with serving(app) as live, live.http() as http:
        for path in sorted(paths):
            url = re.sub(r"\{([^}:]+)[^}]*\}", lambda found: names.get(found[1], "x"), path)
            got, head = await http.get(url), await http.head(url)
            assert head.status_code == got.status_code, path
            assert head.content == b""
            changing = {"date", "x-request-id", "ratelimit-remaining", "ratelimit-reset"}
            assert {n: v for n, v in head.headers.items() if n not in changing} == {
                n: v for n, v in got.headers.items() if n not in changing
            }, path


ORIGIN = "https://app.example"


async def test_cors_is_disabled_by_default(server: LiveServer) -> None:
    ask = {"origin": ORIGIN, "access-control-request-method": "POST"}
    async with server.http() as http:
        for answer in (await http.options("/v1/chat/completions", headers=ask), await http.get("/health", headers=ask)):
            assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize(("origins", "told"), [((ORIGIN,), ORIGIN), (("*",), "*")])
async def test_cors_allows_configured_origins(
    predictions: ScriptedPredictions, origins: tuple[str, ...], told: str
) -> None:
    app = create_app(door_dependencies(predictions, clock=lambda: CREATED), cors_origins=origins)
    ask = {
        "origin": ORIGIN,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type,x-stainless-lang",
    }
    async with serving(app) as live, live.http() as http:
        preflight = await http.options("/v1/chat/completions", headers=ask)
        assert preflight.status_code == 204
        assert preflight.headers["access-control-allow-origin"] == told
        assert "POST" in preflight.headers["access-control-allow-methods"]
        assert preflight.headers["access-control-allow-headers"] == ask["access-control-request-headers"]
        for path, status in (("/v1/chat/completions", 200), ("/v1/nothing", 404)):
            answer = await http.post(path, json=CHAT, headers={"origin": ORIGIN})
            assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, told)
            assert "corral-prediction" in answer.headers["access-control-expose-headers"]
            assert "origin" in answer.headers["vary"].lower()
            assert "access-control-allow-credentials" not in answer.headers
        other = await http.get("/health", headers={"origin": "https://other.example"})
        assert ("access-control-allow-origin" in other.headers) == (told == "*")


@pytest.fixture
def debug_level() -> Iterator[None]:
    """Log at level debug."""
    config = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG))
    yield
    structlog.configure(**config)


@pytest.mark.usefixtures("debug_level")
async def test_request_id_is_in_the_log_and_the_response(server: LiveServer) -> None:
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logs:
        async with server.http() as http:
            made = (await http.get("/v1/models")).headers["x-request-id"]
            given = await http.get("/v1/streams/a/secret", headers={"x-request-id": "from-a-proxy.1"})
            bad = await http.get("/nothing", headers={"x-request-id": "a b=c"})
    assert given.headers["x-request-id"] == "from-a-proxy.1"
    assert re.fullmatch(r"req_[0-9a-f]{24}", made)
    assert re.fullmatch(r"req_[0-9a-f]{24}", bad.headers["x-request-id"])
    ended = [log for log in logs if log["event"] == "request_ended"]
    assert [log["request_id"] for log in ended] == [made, "from-a-proxy.1", bad.headers["x-request-id"]]
    assert [log["route"] for log in ended] == ["/v1/models", "/v1/streams/{prediction_id}/{token}", "/nothing"]
    assert {log["log_level"] for log in ended} == {"debug"}


@pytest.mark.usefixtures("debug_level")
async def test_client_disconnect_while_reading_the_body_is_not_an_error(server: LiveServer) -> None:
    with structlog.testing.capture_logs() as logs:
        for path in ("/v1/chat/completions", "/v1/predictions", f"/v1/inference/{MODEL}"):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer corral-test-key\r\n"
            writer.write(head.encode() + b"Content-Length: 1000\r\nExpect: 100-continue\r\n\r\n")
            await reader.readuntil(b"100 Continue\r\n\r\n")  # the body is being read
            writer.write(b"{")
            await writer.drain()
            writer.close()
        async with asyncio.timeout(60):
            while sum(log["event"] == "client_disconnected" for log in logs) < 3:
                await asyncio.sleep(0.005)
    assert {log["log_level"] for log in logs} == {"debug"}
