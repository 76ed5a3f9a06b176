"""``/corral/v1/deployments``: list, load and unload, for keys with the admin scope."""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest
from httpx2 import Response

from corral.api.app import create_app
from corral.core.errors import DeploymentInUse, InsufficientMemory
from tests.doors.known_keys import ONE_MODEL, READ_ONLY, RUN_ONLY, door_dependencies
from tests.doors.live_server import SECRET, LiveServer, serving
from tests.doors.scripted_deployments import FAILED, LOADING, PATH_IN_REASON, ScriptedDeployments, status
from tests.doors.scripted_predictions import CREATED, ScriptedPredictions

PATH = "/corral/v1/deployments"
CALLS = [("GET", PATH), ("GET", f"{PATH}/llama"), ("POST", f"{PATH}/llama/load"), ("POST", f"{PATH}/llama/unload")]
HOSTILE = ["x" * 5000, "../../etc/passwd", "a/../b", "\u202ename", "é\x1b[2J", "%2e%2e", "llama\x00", "", "'; --"]


@pytest.fixture
def registry() -> ScriptedDeployments:
    return ScriptedDeployments(
        status("llama", LOADING, "meta/llama-2-7b-chat", "meta-llama/Llama-2-7b-chat-hf"),
        status("local/broken", FAILED, "local/broken"),
    )


@pytest.fixture
async def live(registry: ScriptedDeployments, predictions: ScriptedPredictions) -> AsyncIterator[LiveServer]:
    dependencies = door_dependencies(predictions, clock=lambda: CREATED, deployments=registry.admin)
    async with serving(create_app(dependencies)) as server:
        yield server


async def _ask(live: LiveServer, method: str, path: str, *, key: str | None = SECRET) -> Response:
    async with live.http(key=key) as http:
        return await http.request(method, path)


def _error(response: Response) -> dict[str, Any]:
    return response.json()["error"]


@pytest.mark.anyio
async def test_the_list_has_each_deployment_with_state_memory_and_workers(live: LiveServer) -> None:
    response = await _ask(live, "GET", PATH)
    llama, broken = response.json()["deployments"]
    assert (response.status_code, llama["name"]) == (200, "llama")
    assert llama == {
        "name": "llama",
        "models": ["meta/llama-2-7b-chat", "meta-llama/Llama-2-7b-chat-hf"],
        "state": "loading",
        "progress_percent": 40.0,
        "fail_reason": None,
        "load": "on-demand",
        "idle_unload_s": 600.0,
        "engine": "openvino",
        "weights": "int8",
        "context_tokens": 512,
        "running": 2,
        "waiting": 1,
        "memory_bytes": 7 * 2**30,
        "workers": [{"state": "loading", "pid": 123, "running": 2, "deaths": 2, "restarts": 1}],
    }
    assert (broken["state"], PATH_IN_REASON in broken["fail_reason"]) == ("failed", True)
    assert (await _ask(live, "GET", f"{PATH}/llama")).json() == llama


@pytest.mark.anyio
@pytest.mark.parametrize("spelt", ["local/broken", quote("local/broken", safe="")])
async def test_deployment_name_with_a_slash_works_raw_and_encoded(live: LiveServer, spelt: str) -> None:
    assert (await _ask(live, "GET", f"{PATH}/{spelt}")).json()["name"] == "local/broken"
    assert (await _ask(live, "POST", f"{PATH}/{spelt}/load")).status_code == 202


@pytest.mark.anyio
@pytest.mark.parametrize("key", [READ_ONLY, RUN_ONLY, ONE_MODEL])
@pytest.mark.parametrize(("method", "path"), CALLS)
async def test_a_key_without_the_scope_admin_is_refused(
    live: LiveServer, registry: ScriptedDeployments, key: str, method: str, path: str
) -> None:
    response = await _ask(live, method, path, key=key)
    assert (response.status_code, _error(response)["code"]) == (403, "permission_denied")
    assert "'admin'" in _error(response)["message"]
    assert registry.calls == []


@pytest.mark.anyio
@pytest.mark.parametrize("key", [None, "wrong"])
@pytest.mark.parametrize(("method", "path"), CALLS)
async def test_deployments_api_requires_a_valid_key(
    live: LiveServer, registry: ScriptedDeployments, key: str | None, method: str, path: str
) -> None:
    response = await _ask(live, method, path, key=key)
    assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
    assert registry.calls == []


@pytest.mark.anyio
async def test_a_load_is_accepted_at_once_with_the_state(live: LiveServer, registry: ScriptedDeployments) -> None:
    response = await _ask(live, "POST", f"{PATH}/llama/load")
    assert (response.status_code, response.json()["state"]) == (202, "loading")
    assert registry.calls == [("load", "llama")]


@pytest.mark.anyio
@pytest.mark.parametrize(("query", "drain"), [("", False), ("?drain=true", True), ("?drain=false", False)])
async def test_an_unload_drains_only_when_asked(
    live: LiveServer, registry: ScriptedDeployments, query: str, drain: bool
) -> None:
    assert (await _ask(live, "POST", f"{PATH}/llama/unload{query}")).status_code == 200
    assert registry.calls == [("unload", "llama", drain)]


@pytest.mark.anyio
@pytest.mark.parametrize("query", ["?drain=1", "?drain=", "?drain=TRUE", "?drain=true&drain=false", "?drain=%00"])
async def test_invalid_drain_value_is_rejected_by_name(
    live: LiveServer, registry: ScriptedDeployments, query: str
) -> None:
    response = await _ask(live, "POST", f"{PATH}/llama/unload{query}")
    assert (response.status_code, _error(response)["param"]) == (400, "drain")
    assert "true, false" in _error(response)["message"]
    assert registry.calls == []


@pytest.mark.anyio
async def test_unload_of_a_busy_deployment_is_rejected_with_its_run_count(
    live: LiveServer, registry: ScriptedDeployments
) -> None:
    registry.error = DeploymentInUse("llama", runs=3)
    response = await _ask(live, "POST", f"{PATH}/llama/unload")
    assert (response.status_code, _error(response)["code"], _error(response)["runs"]) == (409, "deployment_in_use", 3)
    assert "3 runs" in _error(response)["message"]


@pytest.mark.anyio
async def test_a_load_that_does_not_fit_is_refused_with_both_sizes(
    live: LiveServer, registry: ScriptedDeployments
) -> None:
    registry.error = InsufficientMemory("llama", needed_bytes=7 * 2**30, available_bytes=3 * 2**30)
    response = await _ask(live, "POST", f"{PATH}/llama/load")
    error = _error(response)
    assert (response.status_code, error["code"]) == (409, "insufficient_memory")
    assert (error["needed_bytes"], error["available_bytes"]) == (7 * 2**30, 3 * 2**30)
    assert "7.0 GiB" in error["message"]
    assert "3.0 GiB" in error["message"]


@pytest.mark.anyio
@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize(("method", "suffix"), [("GET", ""), ("POST", "/load"), ("POST", "/unload")])
async def test_malformed_deployment_name_is_404(
    live: LiveServer, registry: ScriptedDeployments, method: str, suffix: str, name: str
) -> None:
    response = await _ask(live, method, f"{PATH}/{quote(name, safe='')}{suffix}")
    assert (response.status_code, _error(response)["code"]) == (404, "deployment_not_found")
    assert len(response.content) < 1000
    assert registry.calls == []


@pytest.mark.anyio
async def test_other_methods_are_405_with_allow(live: LiveServer) -> None:
    response = await _ask(live, "DELETE", f"{PATH}/llama")
    assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD, OPTIONS")


@pytest.mark.anyio
async def test_openapi_document_has_the_deployment_routes_and_errors(live: LiveServer) -> None:
    paths = (await _ask(live, "GET", "/openapi.json")).json()["paths"]
    found = {path: set(operation) for path, operation in paths.items() if path.startswith("/corral/")}
    one = PATH + "/{name}"
    assert found == {PATH: {"get"}, one: {"get"}, one + "/load": {"post"}, one + "/unload": {"post"}}
    assert {"404", "409"} < set(paths[one + "/load"]["post"]["responses"])
