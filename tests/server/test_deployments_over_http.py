"""A deployment of the real server is unloaded, drained and loaded again over HTTP."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from httpx2 import AsyncClient

from tests.server.conftest import RealServer

pytestmark = pytest.mark.anyio

PATH = "/corral/v1/deployments"
NAME = "corral/demo"
ASKED = {"model": NAME, "prompt": "Once upon a time", "temperature": 0}


@pytest.fixture
async def http(server: RealServer) -> AsyncIterator[AsyncClient]:
    async with server.http() as client:
        client.timeout = 60
        yield client


async def state(http: AsyncClient) -> str:
    return (await http.get(f"{PATH}/{NAME}")).json()["state"]


async def until(http: AsyncClient, wanted: str) -> None:
    async with asyncio.timeout(60):
        while await state(http) != wanted:
            await asyncio.sleep(0.02)


async def test_busy_deployment_is_drained_and_reload_gives_the_same_answer(http: AsyncClient) -> None:
    (listed,) = (await http.get(PATH)).json()["deployments"]
    assert (listed["name"], listed["state"], listed["models"][0]) == (NAME, "ready", NAME)
    assert listed["memory_bytes"] > 0
    before = (await http.post("/v1/completions", json={**ASKED, "max_tokens": 8})).json()["choices"][0]["text"]
    long = {"input": {"prompt": "Once upon a time", "min_tokens": 3500, "max_tokens": 3500}}
    created = (await http.post(f"/v1/models/{NAME}/predictions", json=long)).json()
    refused = await http.post(f"{PATH}/{NAME}/unload")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "deployment_in_use")
    assert refused.json()["error"]["runs"] == 1
    unloaded = await http.post(f"{PATH}/{NAME}/unload?drain=true")
    drained = (await http.get(f"/v1/predictions/{created['id']}")).json()
    assert (drained["status"], drained["metrics"]["output_token_count"]) == ("succeeded", 3500)
    assert (unloaded.status_code, unloaded.json()["state"], unloaded.json()["running"]) == (200, "unloaded", 0)
    health = await http.get("/health")
    assert health.json()["deployments"] == [{"name": NAME, "state": "unloaded"}]
    loading = await http.post(f"{PATH}/{NAME}/load")
    assert (loading.status_code, loading.json()["state"] in {"waiting", "loading", "ready"}) == (202, True)
    again = await http.post("/v1/completions", json={**ASKED, "max_tokens": 8})  # waits for the load
    assert again.json()["choices"][0]["text"] == before
    await until(http, "ready")
    assert (await http.get("/health")).status_code == 200


async def test_request_loads_an_unloaded_deployment(http: AsyncClient) -> None:
    assert (await http.post(f"{PATH}/{NAME}/unload")).json()["state"] == "unloaded"
    answer = await http.post("/v1/completions", json={**ASKED, "max_tokens": 4})
    assert answer.status_code == 200
    assert await state(http) == "ready"
