"""Runs while no engine can be started, and while it recovers from crashes: which wait and which fail."""

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
async def serving_with_outages(
    tmp_path: Path, *, max_outage_s: float = 3600
) -> AsyncIterator[tuple[ServiceHarness, Path]]:
    """A service, and a file that prevents its engine from starting again while it exists."""
    block_file = tmp_path / "no engine"
    policy = QueuePolicy(max_failed_starts=1, max_restart_delay_s=0.1)
    async with (
        ready_engine(policy, step_s=0.005, no_start_file=str(block_file)) as engine,
        serving(tmp_path / "corral.db", engine, max_outage_s=max_outage_s) as harness,
    ):
        await open_account(harness)
        yield harness, block_file


async def end_engine(engine: QueuedEngine, block_file: Path) -> None:
    """Kill the worker; return when the engine reports that no other can be started."""
    block_file.touch()
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
async def test_durable_run_waits_for_an_engine_and_a_plain_run_fails(tmp_path: Path, terms: dict[str, object]) -> None:
    async with serving_with_outages(tmp_path) as (harness, block_file):
        expected = await harness.answer(SAMPLED)
        async with (
            harness.service.open(harness.ask(SAMPLED)) as plain,
            harness.service.open(harness.ask(SAMPLED, **terms)) as run,
        ):
            await asyncio.gather(until_token(plain, 20), until_token(run, 20))
            await end_engine(harness.engine, block_file)
            with pytest.raises(EngineUnavailable, match="could not be started"):
                await collected(plain)
            with pytest.raises(LoadFailed, match="could not be loaded"):
                await harness.answer()
            waiting = await harness.service.get(harness.caller, run.id)
            assert not waiting.status.terminal
            block_file.unlink()
            assert await collected(run) == expected
        await harness.balanced()


async def test_durable_run_fails_after_the_longest_outage(tmp_path: Path) -> None:
    async with serving_with_outages(tmp_path, max_outage_s=0.8) as (harness, block_file):
        async with harness.service.open(harness.ask(SAMPLED, background=True)) as run:
            await until_token(run, 20)
            await end_engine(harness.engine, block_file)
            with pytest.raises(EngineUnavailable, match="could not be started"):
                await collected(run)
        failed = await harness.settled(run.id)
        assert (failed.status, failed.stopped_by) == (Status.FAILED, StoppedBy.ENGINE)
        assert failed.completion_tokens >= 20
        block_file.unlink()
        await engine_again(harness.engine)
        await harness.balanced()


async def test_run_that_waits_for_an_engine_can_be_canceled(tmp_path: Path) -> None:
    async with serving_with_outages(tmp_path) as (harness, block_file):
        async with harness.service.open(harness.ask(SAMPLED, background=True)) as run:
            await until_token(run, 20)
        await end_engine(harness.engine, block_file)
        cancelled = await harness.service.cancel(harness.caller, run.id)
        assert (cancelled.status, cancelled.stopped_by) == (Status.CANCELED, StoppedBy.CALLER)


async def test_server_state_is_recovering_after_worker_crashes(database: Path) -> None:
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
