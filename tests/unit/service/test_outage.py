"""Runs while no engine can be started, and while it recovers from crashes: who waits, who is told, who fails."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from corral.core.errors import EngineUnavailable, LoadFailed
from corral.core.generation import Sampling
from corral.core.prediction import Status, StoppedBy
from corral.core.server_state import ServerState
from corral.engines.policy import QueuePolicy
from corral.engines.queued import QueuedEngine
from corral.service.ports import PredictionEvents
from tests.engines import DEADLINE_S, worker_pid
from tests.unit.service.harness import ServiceHarness, collected, limited, once, open_account, ready_engine, serving

pytestmark = pytest.mark.anyio

SAMPLED = limited(300, sampling=Sampling(temperature=1.0), seed=7)


@asynccontextmanager
async def fragile(tmp_path: Path, *, max_outage_s: float = 3600) -> AsyncIterator[tuple[ServiceHarness, Path]]:
    """A service, and the file that keeps its engine from starting again."""
    closed = tmp_path / "no engine"
    policy = QueuePolicy(max_failed_starts=1, max_restart_delay_s=0.1)
    async with (
        ready_engine(policy, step_s=0.005, no_start_file=str(closed)) as engine,
        serving(tmp_path / "corral.db", engine, max_outage_s=max_outage_s) as harness,
    ):
        await open_account(harness)
        yield harness, closed


async def end_engine(engine: QueuedEngine, closed: Path) -> None:
    """Kill the worker; return when callers are told that no other can be started."""
    closed.touch()
    pid = worker_pid(engine)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                await engine.ready()
            except EngineUnavailable:
                return
            await asyncio.sleep(0.005)


async def engine_again(engine: QueuedEngine) -> None:
    """Return when a worker is ready."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            with suppress(EngineUnavailable):
                return await engine.ready()
            await asyncio.sleep(0.005)


async def until_token(run: PredictionEvents, tokens: int) -> None:
    async for number, _ in run.events():
        if number > tokens:
            return


@pytest.mark.parametrize("terms", [{"background": True}, {"idempotency": once()}], ids=["background", "idempotent"])
async def test_a_run_that_goes_on_waits_for_an_engine_and_a_plain_one_fails(
    tmp_path: Path, terms: dict[str, object]
) -> None:
    async with fragile(tmp_path) as (harness, closed):
        expected = await harness.answer(SAMPLED)
        async with (
            harness.service.open(harness.ask(SAMPLED)) as plain,
            harness.service.open(harness.ask(SAMPLED, **terms)) as run,
        ):
            await asyncio.gather(until_token(plain, 20), until_token(run, 20))
            await end_engine(harness.engine, closed)
            with pytest.raises(EngineUnavailable, match="could not be started"):
                await collected(plain)
            with pytest.raises(LoadFailed, match="could not be loaded"):
                await harness.answer()
            waiting = await harness.service.get(harness.caller, run.id)
            assert not waiting.status.terminal
            closed.unlink()
            assert await collected(run) == expected
        await harness.balanced()


async def test_a_run_that_goes_on_fails_when_the_engine_is_away_for_too_long(tmp_path: Path) -> None:
    async with fragile(tmp_path, max_outage_s=0.8) as (harness, closed):
        async with harness.service.open(harness.ask(SAMPLED, background=True)) as run:
            await until_token(run, 20)
            await end_engine(harness.engine, closed)
            with pytest.raises(EngineUnavailable, match="could not be started"):
                await collected(run)
        failed = await harness.settled(run.id)
        assert (failed.status, failed.stopped_by) == (Status.FAILED, StoppedBy.ENGINE)
        assert failed.completion_tokens >= 20
        closed.unlink()
        await engine_again(harness.engine)
        await harness.balanced()


async def test_a_run_that_waits_for_an_engine_can_be_cancelled(tmp_path: Path) -> None:
    async with fragile(tmp_path) as (harness, closed):
        async with harness.service.open(harness.ask(SAMPLED, background=True)) as run:
            await until_token(run, 20)
        await end_engine(harness.engine, closed)
        cancelled = await harness.service.cancel(harness.caller, run.id)
        assert (cancelled.status, cancelled.stopped_by) == (Status.CANCELED, StoppedBy.CALLER)


async def test_the_state_says_that_the_engine_recovers(database: Path) -> None:
    # A run that must be replayed stays alone for a second; nothing else tells when that is over.
    async with ready_engine(step_s=0.005) as engine, serving(database, engine) as harness:
        await open_account(harness)
        async with harness.service.open(harness.ask(SAMPLED)) as run:
            await until_token(run, 200)
            for _ in range(2):
                await kill_worker(engine)
            async with asyncio.timeout(DEADLINE_S):
                while harness.service.status.state is not ServerState.RECOVERING:
                    await asyncio.sleep(0.005)
            assert harness.service.status.reason
            await collected(run)
        assert harness.service.status.state is ServerState.READY
        await harness.balanced()


async def kill_worker(engine: QueuedEngine) -> None:
    """Kill the worker; return when there is another that computes."""
    emitted, restarts = engine.stats().emitted_tokens, engine.stats().restarts
    pid = worker_pid(engine)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(DEADLINE_S):
        while engine.stats().restarts == restarts or engine.stats().emitted_tokens == emitted:
            await asyncio.sleep(0.002)
