"""Deployment states in the APIs, and the errors for models that failed to load."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from httpx2 import Response
from openai import AsyncOpenAI, InternalServerError

from corral.api.app import create_app
from corral.api.deploy_ids import deploy_id
from corral.core.errors import ModelLoading
from corral.engines.stats import EnginePhase, EngineState
from tests.doors.known_keys import RUN_ONLY, door_dependencies
from tests.doors.live_server import SECRET, LiveServer, serving
from tests.doors.scripted_deployments import FAILED, LOADING, PATH_IN_REASON, READY, UNLOADED
from tests.doors.scripted_predictions import CREATED, MODEL, ScriptedPredictions

MESSAGES = [{"role": "user", "content": "Hello!"}]
CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "openai": ("/v1/chat/completions", {"model": MODEL, "messages": MESSAGES}),
    "openai stream": ("/v1/chat/completions", {"model": MODEL, "messages": MESSAGES, "stream": True}),
    "replicate": ("/v1/models/meta/llama-2-7b-chat/predictions", {"input": {"prompt": "Hello!"}}),
    "deepinfra": (f"/v1/inference/{MODEL}", {"input": "Hello!"}),
    "deepinfra stream": (f"/v1/inference/{MODEL}", {"input": "Hello!", "stream": True}),
}
WAITING, RESTARTING = EngineState(EnginePhase.WAITING), EngineState(EnginePhase.RESTARTING)


@pytest.fixture
async def live(predictions: ScriptedPredictions) -> AsyncIterator[LiveServer]:
    dependencies = door_dependencies(predictions, clock=lambda: CREATED)
    async with serving(create_app(dependencies)) as server:
        yield server


async def _ask(live: LiveServer, call: str, key: str = SECRET) -> Response:
    path, body = CALLS[call]
    async with live.http(key=key) as http:
        return await http.post(path, json=body)


def sentence(response: Response) -> str:
    """Extract the error message from the format of the requested API."""
    body = response.json()
    if "detail" in body:
        assert (body["title"], body["status"]) == ("Model failed to load", 503)
        return body["detail"]
    error = body["error"]
    if isinstance(error, str):
        return error
    assert (error["type"], error["code"]) == ("server_error", "model_load_failed")
    return error["message"]


@pytest.mark.anyio
@pytest.mark.parametrize("call", CALLS)
async def test_a_model_that_failed_to_load_is_refused_with_the_reason_for_operators_only(
    live: LiveServer, predictions: ScriptedPredictions, call: str
) -> None:
    predictions.states["demo"] = FAILED
    seen = await _ask(live, call)
    hidden = await _ask(live, call, RUN_ONLY)
    for response in (seen, hidden):
        assert (response.status_code, response.headers["retry-after"]) == (503, "60")
    assert PATH_IN_REASON in sentence(seen)
    assert "could not be loaded by this server; its operator can see why." in sentence(hidden)
    assert "/srv" not in hidden.text


@pytest.mark.anyio
async def test_openai_client_raises_the_model_state_error(live: LiveServer, predictions: ScriptedPredictions) -> None:
    predictions.states["demo"] = FAILED
    client: AsyncOpenAI = live.openai()
    async with client:
        with pytest.raises(InternalServerError, match="could not be loaded") as refused:
            await client.chat.completions.create(model=MODEL, messages=MESSAGES)
    assert (refused.value.status_code, refused.value.code) == (503, "model_load_failed")


@pytest.mark.anyio
@pytest.mark.parametrize("call", CALLS)
async def test_a_load_that_would_take_too_long_is_answered_with_retry_after(
    live: LiveServer, predictions: ScriptedPredictions, call: str
) -> None:
    predictions.enter_error = ModelLoading(
        "This request would wait about 90 s until the model is loaded.", retry_after_s=90
    )
    response = await _ask(live, call)
    assert (response.status_code, response.headers["retry-after"]) == (503, "90")
    assert "until the model is loaded" in response.text


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("state", "text"), [(READY, "ready"), (LOADING, "loading 40 %"), (UNLOADED, "unloaded"), (FAILED, "failed")]
)
async def test_the_model_lists_and_health_show_the_state_without_a_reason(
    live: LiveServer, predictions: ScriptedPredictions, state: EngineState, text: str
) -> None:
    predictions.states["demo"] = state
    async with live.http() as http, live.openai() as client:
        for path in ("/v1/models", f"/v1/models/{MODEL}", "/v1/openai/models", "/health", "/models/list"):
            response = await http.get(path)
            assert response.status_code == 200
            assert PATH_IN_REASON not in response.text
        for path in ("/v1/models", "/v1/openai/models"):
            assert [each["corral"]["state"] for each in (await http.get(path)).json()["data"]] == [text, text]
        assert (await http.get(f"/v1/models/{MODEL}")).json()["corral"]["state"] == text
        assert (await http.get("/health")).json()["deployments"] == [{"name": "demo", "state": text}]
        assert [model.id async for model in client.models.list()] == [MODEL, "meta/llama-2-7b-chat"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("state", "shown", "running", "pending"),
    [
        (UNLOADED, "stopped", 0, 0),
        (WAITING, "initializing", 0, 1),
        (LOADING, "deploying", 0, 1),
        (READY, "running", 1, 0),
        (RESTARTING, "initializing", 0, 1),
        (FAILED, "failed", 0, 0),
    ],
)
async def test_deploy_status_uses_deepinfra_terms(
    live: LiveServer, predictions: ScriptedPredictions, state: EngineState, shown: str, running: int, pending: int
) -> None:
    predictions.states["demo"] = state
    path = f"/deploy/{deploy_id(predictions.catalog.get(MODEL))}"
    async with live.http() as admin, live.http(key=RUN_ONLY) as other:
        deploy = (await admin.get(path)).json()
        assert (deploy["status"], deploy["instances"]) == (shown, {"running": running, "pending": pending})
        assert deploy["fail_reason"] == state.reason
        assert (await other.get(path)).json() == {**deploy, "fail_reason": ""}
        assert len((await admin.get(f"/deploy/list?status={shown}")).json()) == 2
