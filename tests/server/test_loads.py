"""Loads through the APIs: scripted engines that load slowly, in a real server."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import ceil
from pathlib import Path
from typing import Any

import pytest
from httpx2 import AsyncClient, Response

from corral import bootstrap
from corral.engines.stats import EnginePhase
from corral.service.accounts.api_keys import KeyTerms
from corral.settings import load_settings
from tests.doors.live_server import SECRET, serving
from tests.engines import DEADLINE_S
from tests.server.calls import DOORS, Call
from tests.server.harness import SCRIPT, OpenServer, ServerHarness

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def served(directory: Path, scripts: dict[str, dict[str, Any]], **more: Any) -> AsyncIterator[OpenServer]:
    """A server with on-demand deployments of these scripts, by the names of their models."""
    ServerHarness.create(directory)
    lines = [f"{name} = {value}" for name, value in more.items()]
    for name, script in scripts.items():
        lines += ["[[deployments]]", f'name = "{name}"', f'models = ["local/{name}"]', f'weights = "{directory}/tiny"']
        lines += ['engine = "scripted"', 'load = "on-demand"', 'chat_format = "llama-2"', "[deployments.scripted]"]
        lines += [f"{option} = {value}" for option, value in {**SCRIPT, **script}.items()]
    (directory / "corral.toml").write_text("\n".join(lines))
    chosen = {"data_dir": str(directory / "data"), "api_key": SECRET}
    made = bootstrap.build(load_settings(chosen, {"CORRAL_CONFIG": str(directory / "corral.toml")}), lambda _: None)
    async with made.run(), serving(made.app) as live:
        yield OpenServer(port=live.port, made=made)


async def ask(http: AsyncClient, name: str, door: str = "openai") -> Response:
    path, body = Call(f"local/{name}", door, "Hello!").request
    return await http.post(path, json=body, headers={"prefer": "wait=60"}, timeout=60)


async def until(server: OpenServer, name: str, phase: EnginePhase) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while server.made.deployments.status(name).state.phase is not phase:
            await asyncio.sleep(0.005)


async def test_a_load_that_took_longer_than_a_request_may_wait_is_refused_the_next_time(tmp_path: Path) -> None:
    async with served(tmp_path, {"slow": {"load_s": 2.5}}, max_queue_wait_s=1) as server, server.http() as http:
        assert (await ask(http, "slow")).status_code == 200  # nothing is known of its load yet
        await server.made.deployments.unload("slow")
        took_s = server.made.deployments.expected_load_s("slow")
        assert took_s is not None
        for refused in await asyncio.gather(*(ask(http, "slow", door) for door in DOORS)):
            assert refused.status_code == 503
            assert 1 <= int(refused.headers["retry-after"]) <= ceil(took_s - 1)
            assert "until the model is loaded" in refused.text
        await until(server, "slow", EnginePhase.READY)  # the refused requests have begun the load
        assert (await ask(http, "slow")).status_code == 200
        assert await server.made.account_services.usage.reconcile() == []


async def test_loads_take_turns_and_a_restart_after_a_death_does_not_wait_for_one(tmp_path: Path) -> None:
    scripts = {"first": {}, "slow": {"load_s": 3.0}, "last": {}}
    async with served(tmp_path, scripts) as server, server.http() as http:
        assert (await ask(http, "first")).status_code == 200
        slow = asyncio.create_task(ask(http, "slow"))
        await until(server, "slow", EnginePhase.LOADING)
        last = asyncio.create_task(ask(http, "last"))
        await until(server, "last", EnginePhase.WAITING)
        (worker,) = server.made.deployments.status("first").workers
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        await until(server, "first", EnginePhase.RESTARTING)
        assert (await ask(http, "first")).status_code == 200
        phases = {status.name: status.state.phase for status in server.made.deployments.statuses()}
        assert phases == {"first": EnginePhase.READY, "slow": EnginePhase.LOADING, "last": EnginePhase.WAITING}
        assert [(await one).status_code for one in (slow, last)] == [200, 200]
        assert await server.made.account_services.usage.reconcile() == []


async def test_a_caller_without_credit_loads_nothing(tmp_path: Path) -> None:
    prices = tmp_path / "own.toml"
    per_million = 'input_usd_per_million = "1"\noutput_usd_per_million = "1"'
    prices.write_text(f'[["local/model"]]\nsince = 2026-01-01\n{per_million}\n')
    async with served(tmp_path, {"model": {}}, prices=f'"{prices}"') as server:
        account = await server.made.account_services.accounts.create("poor")
        _, secret = await server.made.account_services.keys.create(account.id, KeyTerms(name="test"))
        async with server.http(key=secret) as http:
            for door in DOORS:
                assert (await ask(http, "model", door)).status_code == 402
        assert server.made.deployments.status("model").state.phase is EnginePhase.UNLOADED
