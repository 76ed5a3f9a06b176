"""Rules for all routes: API keys, health, hosts, body limits, security headers."""

import asyncio
import re

import pytest
from fastapi.routing import iter_route_contexts
from httpx2 import AsyncClient

from corral.api.app import create_app
from corral.core.server_state import ServerState, ServerStatus
from tests.doors.known_keys import door_dependencies
from tests.doors.live_server import SECRET, LiveServer, serving
from tests.doors.scripted_deployments import ScriptedDeployments, status
from tests.doors.scripted_predictions import MODEL, ScriptedPredictions

OPEN = {
    ("GET", "/health"),
    ("GET", "/openapi.json"),
    ("HEAD", "/openapi.json"),
    # Model metadata, public on DeepInfra too.
    ("GET", "/models/list"),
    ("GET", "/models/featured"),
    ("GET", "/models/{owner}/{model}"),
    ("GET", "/models/{owner}/{model}/versions"),
    ("GET", "/models/{owner}/{model}/schema/{variant}"),
    ("GET", "/cli/version"),
    # Public images.
    ("GET", "/static/covers/{file}"),
}
"""Routes without an API key. Extend this list deliberately."""
OPEN_BY_CAPABILITY = {
    ("GET", "/v1/streams/{prediction_id}/{token}"),
    ("GET", "/v1/files/{file_id}/download"),
    ("GET", "/files/{file_id}/download"),
    ("GET", "/v1/v1/files/{file_id}/download"),
}
"""Routes with a signed or secret URL instead of an API key; any other URL is 404."""

NAMES = {
    "model:path": MODEL,
    "owner": MODEL.partition("/")[0],
    "model": MODEL.partition("/")[2],
    "variant": "default",
    "file": "demo.svg",
}
"""Existing ids, so that an open route answers 200."""


@pytest.mark.anyio
async def test_every_route_needs_a_key_except_the_open_ones(predictions: ScriptedPredictions) -> None:
    deployments = ScriptedDeployments(status("llama")).admin
    app = create_app(door_dependencies(predictions, clock=lambda: 0.0, deployments=deployments))
    calls = {
        (method, route.path or "")
        for route in iter_route_contexts(app.routes)
        for method in getattr(route.original_route, "methods", None) or {"?"}
    }
    assert len(calls - OPEN) >= 6
    async with serving(app) as live:
        for method, path in sorted(calls):
            url = re.sub(r"\{([^}]+)\}", lambda found: NAMES.get(found[1], found[1]), path)
            for key in (None, "wrong"):
                async with live.http(key=key) as http:
                    response = await http.request(method, url, content=b"{")
                expected = 200 if (method, path) in OPEN else 401
                expected = 404 if (method, path) in OPEN_BY_CAPABILITY else expected
                assert response.status_code == expected, (method, path)
                if expected == 401:
                    assert response.headers["www-authenticate"] == "Bearer"
                if expected == 401 and method != "HEAD":
                    body = response.json()
                    error = body.get("error")
                    sentence = error if isinstance(error, str | None) else error["message"]
                    assert body.get("title") == "Unauthenticated" or sentence.startswith("Not authenticated")
                    assert ("title" in body) == (body.get("status") == 401)
    assert predictions.requests == []


@pytest.mark.anyio
async def test_health_follows_the_model(server: LiveServer, predictions: ScriptedPredictions) -> None:
    async with server.http(key=None) as http:
        predictions.ready = False
        starting = await http.get("/health")
        predictions.ready = True
        ready = await http.get("/health")
    assert (starting.status_code, starting.json()) == (
        503,
        {"status": "starting", "deployments": [{"name": "demo", "state": "waiting"}]},
    )
    assert starting.headers["retry-after"] == "1"
    assert (ready.status_code, ready.json()) == (
        200,
        {"status": "ready", "deployments": [{"name": "demo", "state": "ready"}]},
    )


@pytest.mark.anyio
@pytest.mark.parametrize("state", [state for state in ServerState if state is not ServerState.READY])
async def test_health_shows_the_state_and_its_reason(
    server: LiveServer, predictions: ScriptedPredictions, state: ServerState
) -> None:
    predictions.status = ServerStatus(state=state, reason="The database cannot be written.")
    async with server.http(key=None) as http:
        answer = await http.get("/health")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    deployments = [{"name": "demo", "state": "waiting"}]
    assert answer.json() == {"status": state, "reason": "The database cannot be written.", "deployments": deployments}


@pytest.mark.anyio
async def test_an_unknown_path_and_a_wrong_method_are_answered_in_json(server: LiveServer) -> None:
    async with server.http() as http:
        for path in ("/nothing", "/v1/openai", "/v1/models/", "/docs", "/redoc", "/v1//models"):
            response = await http.get(path)
            assert response.status_code == 404, path
            assert response.headers["content-type"] in ("application/json", "application/problem+json")
            assert f"There is no {path} here" in response.text
        response = await http.get("/v1/chat/completions")
        assert (response.status_code, response.json()["error"]["code"]) == (405, "method_not_allowed")
        assert response.headers["allow"] == "OPTIONS, POST"


@pytest.mark.anyio
async def test_every_response_has_security_headers(server: LiveServer) -> None:
    async with server.http() as http:
        for path in ("/health", "/nothing", "/v1/models"):
            headers = (await http.get(path)).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["content-security-policy"].startswith("default-src 'none'")
            assert headers["cache-control"] == "no-store"
            assert "access-control-allow-origin" not in headers


async def _status(live: LiveServer, head: bytes, *, path: bytes = b"/health") -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", live.port)
    writer.write(b"GET %b HTTP/1.1\r\n" % path + head + b"Connection: close\r\n\r\n")
    line = await reader.readline()
    await reader.read()
    writer.close()
    return int(line.split()[1])


@pytest.mark.anyio
async def test_only_loopback_names_are_served_by_default(server: LiveServer) -> None:
    for host in (b"localhost", b"LOCALHOST:8000", b"127.0.0.1:1", b"[::1]:8000", b"corral.localhost"):
        assert await _status(server, b"Host: %b\r\n" % host) == 200
    for host in (b"example.org", b"localhost.example.org", b"192.168.0.7", b""):
        assert await _status(server, b"Host: %b\r\n" % host) == 421
    assert await _status(server, b"") == 421
    assert await _status(server, b"Host: localhost\r\nHost: example.org\r\n") == 421


@pytest.mark.anyio
async def test_allowed_hosts_are_served_too_and_a_star_serves_all(predictions: ScriptedPredictions) -> None:
    for allowed, other in ((("Corral.example", "::2"), 421), (("*",), 200)):
        async with serving(
            create_app(door_dependencies(predictions, clock=lambda: 0.0), allowed_hosts=allowed)
        ) as live:
            assert await _status(live, b"Host: corral.EXAMPLE:8000\r\n") == 200
            assert await _status(live, b"Host: [::2]\r\n") == 200
            assert await _status(live, b"Host: localhost\r\n") == 200
            assert await _status(live, b"Host: example.org\r\n") == other
            assert await _status(live, b"", path=b"/nothing") == (404 if other == 200 else 421)


CHAT = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + SECRET.encode() + b"\r\n"


@pytest.mark.anyio
async def test_too_large_content_length_is_rejected_before_the_body(server: LiveServer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(CHAT + b"Content-Length: 10000000\r\n\r\n")
    async with asyncio.timeout(60):
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readuntil(b"}}")
    writer.close()
    assert head.startswith(b"HTTP/1.1 413")
    assert b"larger than 2097152 bytes" in body


@pytest.mark.anyio
async def test_chunked_body_is_rejected_at_the_limit(server: LiveServer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(CHAT + b"Transfer-Encoding: chunked\r\n\r\n")
    writer.write((b"10000\r\n" + b" " * 0x10000 + b"\r\n") * 33)
    async with asyncio.timeout(60):
        head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    assert head.startswith(b"HTTP/1.1 413")


@pytest.mark.anyio
async def test_client_sending_too_much_receives_the_error(server: LiveServer) -> None:
    async with server.http() as http:
        for _ in range(3):
            response = await http.post("/v1/chat/completions", content=b" " * 10_000_000)
            assert response.status_code == 413
            assert response.json()["error"]["type"] == "invalid_request_error"
        assert (await http.get("/v1/models")).status_code == 200


@pytest.mark.anyio
async def test_body_of_exactly_the_limit_is_read(server: LiveServer) -> None:
    async with server.http() as http:
        at, over = [
            await http.post("/v1/chat/completions", content=b" " * size) for size in (2 * 1024**2, 2 * 1024**2 + 1)
        ]
    assert (at.status_code, over.status_code) == (400, 413)


@pytest.mark.anyio
async def test_a_large_body_without_a_key_is_not_read(server: LiveServer) -> None:
    async with AsyncClient(base_url=server.url) as http:
        response = await http.post("/v1/chat/completions", content=b" " * 10_000_000)
    assert response.status_code == 401
    assert response.headers["connection"] == "close"
