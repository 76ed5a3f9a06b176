"""An engine on several workers. Real processes, scripted tokens."""

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from corral.core.errors import EngineFailed
from corral.core.generation import Constraint, Sampling
from corral.engines.base import Capabilities, Engine
from corral.engines.policy import QueuePolicy
from corral.engines.queued import QueuedEngine
from corral.engines.scripted import SCRIPTED_CAPABILITIES
from corral.engines.stats import EnginePhase
from tests.engines import (
    DEADLINE_S,
    generate,
    request,
    scripted_engine,
    scripted_limits,
    scripted_worker,
    until_idle,
    worker_pid,
)

pytestmark = pytest.mark.anyio

BAD_ID = 66
UNREPEATABLE: Capabilities = replace(SCRIPTED_CAPABILITIES, deterministic_replay=False)
SAMPLED = Sampling(temperature=0.8)


async def until_all_ready(engine: Engine) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while any(worker.state.phase is not EnginePhase.READY for worker in engine.stats().workers):
            await asyncio.sleep(0.005)


async def kill_busiest(engine: Engine) -> None:
    """Kill the worker that computes most; return when its death was noticed."""
    deaths = [worker.deaths for worker in engine.stats().workers]
    pid = worker_pid(engine)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(DEADLINE_S):
        while [worker.deaths for worker in engine.stats().workers] == deaths:
            await asyncio.sleep(0)


async def test_work_is_spread_over_all_workers() -> None:
    engine = scripted_engine(workers=2, step_s=0.005)
    async with engine.run(), AsyncExitStack() as stack:
        await until_all_ready(engine)
        for _ in range(6):
            await stack.enter_async_context(engine.open(request(max_new_tokens=1000)))
        assert [worker.running for worker in engine.stats().workers] == [3, 3]
        assert len({worker.pid for worker in engine.stats().workers}) == 2


@pytest.mark.parametrize("sampling", [Sampling(temperature=0), SAMPLED], ids=["greedy", "sampled"])
async def test_the_death_of_one_of_two_workers_changes_no_answer(sampling: Sampling) -> None:
    engine = scripted_engine(workers=2, step_s=0.003)
    asked = [request(5, n, max_new_tokens=120, sampling=sampling, seed=n) for n in range(10, 18)]
    async with engine.run():
        await until_all_ready(engine)
        alone = [await generate(engine, one) for one in asked]
        emitted_tokens = engine.stats().emitted_tokens
        together = asyncio.gather(*(generate(engine, one) for one in asked))
        while engine.stats().emitted_tokens < emitted_tokens + 200:
            await asyncio.sleep(0.002)
        await kill_busiest(engine)
        assert await together == alone
        await until_idle(engine)


async def test_runs_of_a_dead_worker_move_to_the_other_at_once() -> None:
    engine = scripted_engine(workers=2, step_s=0.005)
    async with engine.run(), AsyncExitStack() as stack:
        await until_all_ready(engine)
        runs = [await stack.enter_async_context(engine.open(request(max_new_tokens=1000))) for _ in range(4)]
        await anext(runs[0])
        await kill_busiest(engine)
        assert sorted(worker.running for worker in engine.stats().workers) == [0, 4]
        assert [run.position for run in runs] == [0] * 4
        assert engine.stats().state.phase is EnginePhase.READY
        assert EnginePhase.RESTARTING in {worker.state.phase for worker in engine.stats().workers}
        await until_all_ready(engine)


async def test_a_request_that_kills_workers_fails_alone_while_others_are_accepted() -> None:
    engine = scripted_engine(workers=2, step_s=0.002, exit_id=BAD_ID)
    good = request(5, 6, max_new_tokens=200)
    async with engine.run():
        await until_all_ready(engine)
        expected = await generate(engine, good)
        others = [asyncio.ensure_future(generate(engine, good)) for _ in range(4)]
        bad = asyncio.ensure_future(generate(engine, request(5, BAD_ID)))
        async with asyncio.timeout(DEADLINE_S):
            while not bad.done():
                others.append(asyncio.ensure_future(generate(engine, good)))
                await asyncio.sleep(0.01)
        with pytest.raises(EngineFailed):
            await bad
        refused = [one for one in await asyncio.gather(*others, return_exceptions=True) if one != expected]
        assert len(others) > 4
        # Only while both workers are gone or compute suspects is a request refused.
        assert all("recovers" in str(one) for one in refused)
        await until_all_ready(engine)
        assert await generate(engine, good) == expected


async def test_a_run_that_fits_the_sum_of_all_room_but_no_worker_waits() -> None:
    engine = scripted_engine(workers=2, kv_blocks=4, kv_block_tokens=32, step_s=0.005)
    asked = request(max_new_tokens=80)
    async with engine.run(), AsyncExitStack() as stack:
        await until_all_ready(engine)
        first = await stack.enter_async_context(AsyncExitStack())
        await first.enter_async_context(engine.open(asked))
        await stack.enter_async_context(engine.open(asked))
        third = await stack.enter_async_context(engine.open(replace(asked, max_new_tokens=40)))
        assert (third.position, engine.stats().waiting) == (1, 1)
        await first.aclose()
        while third.position:
            await third.moved()
        await anext(third)


async def test_a_worker_that_never_starts_leaves_the_work_to_the_other() -> None:
    workers = [scripted_worker(refuse_load=True), scripted_worker()]
    engine = QueuedEngine(workers, limits=scripted_limits(), capabilities=SCRIPTED_CAPABILITIES)
    async with engine.run():
        await engine.ready()
        assert len((await generate(engine, request()))[0]) == 16
        async with asyncio.timeout(DEADLINE_S):
            while engine.stats().workers[0].state.phase is EnginePhase.LOADING:
                await asyncio.sleep(0.005)
        broken, sound = engine.stats().workers
        assert (str(broken.state), str(sound.state)) == ("failed: refused by the script", "ready")
        assert str(engine.stats().state) == "ready"


async def test_a_sampled_run_goes_on_as_a_prompt_where_the_engine_cannot_repeat_it_and_tells_so() -> None:
    worker = scripted_worker(step_s=0.005)
    engine = QueuedEngine([worker], limits=scripted_limits(), capabilities=UNREPEATABLE)
    async with engine.run():
        await engine.ready()
        for sampling, continues in ((SAMPLED, True), (Sampling(temperature=0), False)):
            async with engine.open(request(sampling=sampling, max_new_tokens=100)) as run:
                ids = [*(await anext(run)).ids]
                await kill_busiest(engine)
                async for batch in run:
                    ids += batch.ids
                assert (len(ids), run.continued) == (100, continues)
        assert engine.stats().replayed_tokens == 0


async def test_a_constrained_run_that_cannot_be_repeated_fails() -> None:
    policy = QueuePolicy(takes_unchecked=True)
    worker = scripted_worker(step_s=0.005, answer=(5,) * 1000)
    engine = QueuedEngine([worker], limits=scripted_limits(), capabilities=UNREPEATABLE, policy=policy)
    constrained = replace(request(max_new_tokens=900), constraint=Constraint(kind="regex", source="a+"))
    async with engine.run():
        await engine.ready()
        async with engine.open(constrained) as run:
            await anext(run)
            await kill_busiest(engine)
            with pytest.raises(EngineFailed, match="could not repeat"):
                async for _ in run:
                    pass
        await until_idle(engine)
