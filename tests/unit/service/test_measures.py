"""Latency percentiles and current load."""

import asyncio
import time
from pathlib import Path

import pytest

from corral.service.measures import Latency, Measures, Percentiles, percentiles
from tests.engines import DEADLINE_S
from tests.unit.service.harness import ServiceHarness, collected, deployments_of, limited, open_harness

pytestmark = pytest.mark.anyio


def measures(harness: ServiceHarness) -> Measures:
    return Measures(store=harness.store, deployments=deployments_of(harness.engine), clock=time.time)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], None),
        ([7], Percentiles(p50=7, p90=7, p99=7)),
        ([3, 1, 2, 4], Percentiles(p50=2, p90=4, p99=4)),
        (list(range(1, 101)), Percentiles(p50=50, p90=90, p99=99)),
        (list(range(1000, 0, -1)), Percentiles(p50=500, p90=900, p99=990)),
    ],
)
def test_percentiles_are_nearest_ranks(values: list[float], expected: Percentiles | None) -> None:
    assert percentiles(values) == expected


async def test_latency_is_computed_from_the_accounts_predictions(database: Path) -> None:
    async with open_harness(database, step_s=0.01) as harness:
        measured = measures(harness)
        assert await measured.latency(harness.account_id) == Latency(runs=0, first_token_ms=None, token_ms=None)
        await harness.answer(limited(20))
        stored = await harness.newest()
        assert stored.started_at_ms is not None
        assert stored.completed_at_ms is not None
        first_token_ms = stored.started_at_ms - stored.created_at_ms
        token_ms = (stored.completed_at_ms - stored.started_at_ms) / 19
        assert token_ms >= 10
        assert await measured.latency(harness.account_id) == Latency(
            runs=1,
            first_token_ms=Percentiles(p50=first_token_ms, p90=first_token_ms, p99=first_token_ms),
            token_ms=Percentiles(p50=token_ms, p90=token_ms, p99=token_ms),
        )
        assert (await measured.latency("acct_nobody")).runs == 0


async def test_one_token_runs_and_stopped_runs_do_not_count_in_the_time_per_token(database: Path) -> None:
    async with open_harness(database, step_s=0.01) as harness:
        await harness.answer(limited(1))
        async with harness.service.open(harness.ask(limited(500))) as run:
            async for number, _ in run.events():
                if number > 5:
                    break
        await harness.settled(run.id)
        latency = await measures(harness).latency(harness.account_id)
        assert latency.runs == 2
        assert latency.first_token_ms is not None
        assert latency.token_ms is None


async def test_load_reports_the_engines_current_figures(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corral.service.measures.SAMPLE_S", 0.02)
    async with open_harness(database, step_s=0.005) as harness:
        measured = measures(harness)
        assert measured.load().recent_tokens_per_s == ()
        async with measured.run(), harness.service.open(harness.ask(limited(200))) as run:
            async with asyncio.timeout(DEADLINE_S):
                while not (measured.load().running and measured.load().tokens_per_s):
                    await asyncio.sleep(0.005)
            load = measured.load()
            assert (load.running, load.waiting) == (1, 0)
            assert load.kv_usage_percent > 0
            assert 0 < load.tokens_per_s <= 1000
            assert load.recent_tokens_per_s[-1] == load.tokens_per_s
            await collected(run)
            async with asyncio.timeout(DEADLINE_S):
                while measured.load().tokens_per_s:
                    await asyncio.sleep(0.005)
        assert len(measured.load().recent_tokens_per_s) <= 60
