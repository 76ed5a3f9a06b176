"""Responses of every API while the disk is full, and recovery when it has space again."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
from httpx2 import AsyncClient

from corral.api.app import create_app
from corral.core.prediction import Status
from corral.service.accounts.api_keys import KeyTerms
from corral.service.runs import settler
from tests.doors.known_keys import door_dependencies
from tests.doors.live_server import serving
from tests.unit.service.harness import ServiceHarness, open_harness
from tests.unit.service.test_storage_failures import until

pytestmark = pytest.mark.anyio

FULL = "The database cannot be written: database or disk is full."
TOKENS = 400
READY = [{"name": "demo", "state": "ready"}]
MESSAGES = [{"role": "user", "content": "Hi"}]


@asynccontextmanager
async def http_to(harness: ServiceHarness) -> AsyncIterator[AsyncClient]:
    """HTTP server over the harness's service, and a client with a key of its account."""
    _, secret = await harness.keys.create(harness.account_id, KeyTerms(name="http"))
    app = create_app(door_dependencies(harness.service, keys=harness.keys, clock=harness.clock))
    async with serving(app) as live, live.http(key=secret) as http:
        yield http


def error_of(path: str) -> dict[str, Any]:
    """Error response of the API of *path*."""
    if path.startswith("/v1/inference/"):
        return {"error": FULL}
    if path.endswith("/predictions"):
        return {"title": "Database is not available", "detail": FULL, "status": 503, "retry_after": 5}
    return {"error": {"message": FULL, "type": "server_error", "param": None, "code": "storage_unavailable"}}


async def limit_pages(harness: ServiceHarness, pages: int) -> None:
    """Limit the size of the database file: SQLite then fails as on a full disk."""
    await harness.store.write(lambda connection: connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}"))


async def test_every_door_reports_a_full_disk_and_settlements_wait(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settler, "SETTLE_AGAIN_S", 0.05)
    asks = [
        ("/v1/chat/completions", {"model": "corral/demo", "messages": MESSAGES, "max_tokens": 5}),
        ("/v1/chat/completions", {"model": "corral/demo", "messages": MESSAGES, "max_tokens": 5, "stream": True}),
        ("/v1/completions", {"model": "corral/demo", "prompt": "Hi", "max_tokens": 5}),
        ("/v1/openai/chat/completions", {"model": "corral/demo", "messages": MESSAGES, "max_tokens": 5}),
        ("/v1/inference/corral/demo", {"input": "Hi", "max_new_tokens": 5}),
        ("/v1/inference/corral/demo", {"input": "Hi", "max_new_tokens": 5, "stream": True}),
        ("/v1/models/corral/demo/predictions", {"input": {"prompt": "Hi", "max_new_tokens": 5}}),
    ]
    with structlog.testing.capture_logs() as logs:
        async with open_harness(database, step_s=0.005) as harness, http_to(harness) as http:
            waiting = await http.post(asks[-1][0], json={"input": {"prompt": "Hi", "max_new_tokens": TOKENS}})
            assert waiting.status_code == 201, waiting.text
            await limit_pages(harness, 1)
            await until(lambda: any(log["event"] == "settlement_retry" for log in logs))

            health = await http.get("/health")
            assert (health.status_code, health.headers["retry-after"]) == (503, "1")
            assert health.json() == {"status": "storage_failed", "reason": FULL, "deployments": READY}
            for path, body in asks:
                refused = await http.post(path, json=body)
                assert (refused.status_code, refused.headers["retry-after"]) == (503, "5"), path
                assert refused.json() == error_of(path), path
            assert (await harness.service.get(harness.caller, waiting.json()["id"])).status is Status.PROCESSING
            outages = [log for log in logs if log["event"] == "database_unavailable"]
            assert {(log["log_level"], log["reason"]) for log in outages} == {("error", FULL)}

            await limit_pages(harness, 2**30)
            settled = await harness.settled(waiting.json()["id"])
            assert (settled.status, settled.completion_tokens) == (Status.SUCCEEDED, TOKENS)
            await until(lambda: harness.service.ready)
            assert (await http.get("/health")).json() == {"status": "ready", "deployments": READY}
            for path, body in asks:
                answered = await http.post(path, json=body)
                assert answered.status_code in {200, 201}, answered.text
    assert any(log["event"] == "database_recovered" for log in logs)
