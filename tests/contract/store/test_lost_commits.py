"""PostgreSQL connections that break after a COMMIT was done and before its answer arrives."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import structlog
from sqlalchemy import make_url

from corral.core.errors import StorageUnavailable
from corral.core.prediction import Status
from corral.core.server_state import ServerState
from corral.service.runs import background, runner, settler
from tests.contract.store.cutting_proxy import CuttingProxy, cutting
from tests.engines import DEADLINE_S
from tests.unit.service.harness import ServiceHarness, limited, numbered, open_harness

pytestmark = pytest.mark.anyio

STATEMENTS = {
    "claim": b"INSERT INTO predictions",
    "flush": b"INSERT INTO stream_rows",
    "settlement": b"INSERT INTO usage_records",
}

EXPECTED_LOGS = {"database_unavailable", "database_recovered", "settlement_retry", "purge_failed"}
"""What is logged where every operation recognises what it did; anything else is a row that the database refused."""


@pytest.fixture
def proxy(postgres_url: str) -> Iterator[CuttingProxy]:
    url = make_url(postgres_url)
    with cutting((url.host or "127.0.0.1", url.port or 5432)) as running:
        yield running


@asynccontextmanager
async def harness_behind(
    proxy: CuttingProxy, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ServiceHarness]:
    """A service whose database connections go through *proxy*; ends with reconciled books, nothing held or refused."""
    monkeypatch.setattr(settler, "SETTLE_AGAIN_S", 0.02)
    monkeypatch.setattr(background, "FLUSH_INTERVAL_S", 0.02)
    monkeypatch.setattr(runner, "CLAIM_AGAIN_S", 0.02)
    through = make_url(postgres_url).set(host="127.0.0.1", port=proxy.port)
    with structlog.testing.capture_logs() as logs:
        async with open_harness(through.render_as_string(hide_password=False), step_s=0.003) as harness:
            yield harness
            await _nothing_is_held(harness)
    assert {log["event"] for log in logs} <= EXPECTED_LOGS


async def _nothing_is_held(harness: ServiceHarness) -> None:
    await harness.balanced()
    assert (await harness.account()).held_nusd == 0
    async with asyncio.timeout(DEADLINE_S):
        while harness.service.status.state is not ServerState.READY:
            await asyncio.sleep(0.02)


async def run_one(harness: ServiceHarness, tokens: int) -> str:
    """Make a run and read it to its end; nothing of it may be lost or stored twice. Its id."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                async with harness.service.open(harness.ask(limited(tokens), background=True)) as run:
                    live = await numbered(run)
                break
            except StorageUnavailable:  # what the caller is told; as a client does, ask again
                await asyncio.sleep(0.02)
    assert [number for number, _ in live] == list(range(1, 1 + tokens + 2 + 1))
    stored = await harness.settled(run.id)
    assert (stored.status, stored.completion_tokens) == (Status.SUCCEEDED, tokens)
    assert await numbered(await harness.service.attach(harness.caller, run.id)) == live
    return run.id


@pytest.mark.parametrize("operation", STATEMENTS)
async def test_commit_with_lost_reply_is_detected_and_affects_no_other_run(
    proxy: CuttingProxy, postgres_url: str, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    cut: list[bytes] = []

    def the_first(sent: bytes) -> bool:
        wanted = not cut and STATEMENTS[operation] in sent and (operation != "flush" or b"usage_records" not in sent)
        cut.extend([sent] if wanted else [])
        return wanted

    async with harness_behind(proxy, postgres_url, monkeypatch) as harness:
        proxy.is_cut = the_first
        ids = await asyncio.gather(*(run_one(harness, tokens) for tokens in (30, 40, 50)))
        assert len(proxy.cuts) == 1
        made = [one.id for one in await harness.service.page(harness.caller)]
        assert sorted(made) == sorted(ids)


async def test_commits_with_lost_replies_are_detected_when_one_in_three_is_lost(
    proxy: CuttingProxy, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = [0]

    def each_third(sent: bytes) -> bool:
        if b"READ ONLY" in sent:
            return False
        commits[0] += 1
        return commits[0] % 3 == 0

    async with harness_behind(proxy, postgres_url, monkeypatch) as harness:
        proxy.is_cut = each_third
        for tokens in (20, 40):
            await asyncio.gather(*(run_one(harness, tokens + more) for more in range(3)))
        proxy.is_cut = lambda _sent: False
        assert len(proxy.cuts) >= 5
