"""A slow or briefly unavailable database: every event and token is stored exactly once."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from corral.core.errors import Overloaded
from corral.core.prediction import Status
from corral.service.runs import background, settler
from tests.unit.service.harness import ServiceHarness, limited, numbered, open_harness, split_deltas

pytestmark = pytest.mark.anyio


def delay_writes(harness: ServiceHarness, monkeypatch: pytest.MonkeyPatch, before: Callable[[], Any]) -> None:
    """Await *before* in front of every write from now on."""
    write = harness.store.write

    async def slow(work: Callable[[Any], Any]) -> Any:
        await before()
        return await write(work)

    monkeypatch.setattr(harness.store, "write", slow)


async def test_run_that_ends_during_a_progress_write_is_stored_once(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "FLUSH_INTERVAL_S", 0.001)
    async with open_harness(database, step_s=0.001) as harness:
        delay_writes(harness, monkeypatch, lambda: asyncio.sleep(0.02))

        async def one(tokens: int) -> None:
            async with harness.service.open(harness.ask(limited(tokens))) as run:
                live = await numbered(run)
            assert split_deltas(await numbered(await harness.service.attach(harness.caller, run.id))) == live
            stored = await harness.settled(run.id)
            assert (stored.status, stored.completion_tokens) == (Status.SUCCEEDED, tokens)

        await asyncio.gather(*(one(tokens) for tokens in range(5, 105, 4)))


async def test_short_database_outage_only_delays_the_settlement(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settler, "SETTLE_AGAIN_S", 0.01)
    monkeypatch.setattr(background, "FLUSH_INTERVAL_S", 0.01)
    async with open_harness(database, step_s=0.005) as harness, harness.service.open(harness.ask(limited(50))) as run:
        away, asked = 20, 0

        async def fail_at_first() -> None:
            nonlocal asked
            asked += 1
            if asked <= away:
                raise Overloaded("The database cannot answer now.", retry_after_s=1)

        delay_writes(harness, monkeypatch, fail_at_first)
        assert len(await numbered(run)) == 1 + 50 + 2
        assert asked > away
        assert (await harness.settled(run.id)).completion_tokens == 50


async def test_settlement_with_a_lost_response_counts_once(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settler, "SETTLE_AGAIN_S", 0.01)
    async with open_harness(database) as harness, harness.service.open(harness.ask(limited(50))) as run:
        write, lost = harness.store.write, 0

        async def lose_the_first_answer(work: Callable[[Any], Any]) -> Any:
            nonlocal lost
            done = await write(work)
            if lost == 0:
                lost += 1
                raise Overloaded("The database cannot answer now.", retry_after_s=1)
            return done

        monkeypatch.setattr(harness.store, "write", lose_the_first_answer)
        await numbered(run)
        assert lost == 1
        assert (await harness.settled(run.id)).completion_tokens == 50
