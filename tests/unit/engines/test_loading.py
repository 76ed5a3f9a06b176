"""Requests before, during and between loads of an engine. Real processes, scripted tokens."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from corral.core.errors import CheckpointRefused, EngineUnavailable, ModelLoading, PromptTooLong
from corral.core.generation import Constraint
from corral.engines.base import EndReason, Engine
from corral.engines.constraint_check import ConstraintChecker
from corral.engines.policy import CHECKER_POLICY, QueuePolicy
from corral.engines.queued import QueuedEngine
from corral.engines.scripted import SCRIPTED_CAPABILITIES
from corral.engines.stats import EnginePhase, EngineState
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

WHOLE = 16


async def until_waiting(engine: Engine, requests: int = 1) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while engine.stats().waiting < requests:
            await asyncio.sleep(0.002)


async def until_phase(engine: Engine, *phases: EnginePhase) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while engine.stats().state.phase not in phases:
            await asyncio.sleep(0.002)


class Gate:
    """Lets one load through at a time, and counts them."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self.entered = 0

    @asynccontextmanager
    async def enter(self) -> AsyncGenerator[None]:
        async with self._lock:
            self.entered += 1
            yield

    def engine(self, policy: QueuePolicy | None = None, **options: Any) -> QueuedEngine:
        worker = scripted_worker(load_gate=self.enter, **options)
        return QueuedEngine([worker], limits=scripted_limits(), capabilities=SCRIPTED_CAPABILITIES, policy=policy)


async def test_requests_during_a_load_are_queued_with_positions_and_then_run() -> None:
    engine = scripted_engine(load_s=0.3)
    async with engine.run(), AsyncExitStack() as stack:
        await until_phase(engine, EnginePhase.LOADING)
        runs = [await stack.enter_async_context(engine.open(request())) for _ in range(3)]
        assert [run.position for run in runs] == [1, 2, 3]
        assert engine.stats().emitted_tokens == 0
        ids = [token_id async for batch in runs[2] for token_id in batch.ids]
        assert (len(ids), runs[2].position) == (WHOLE, 0)


async def test_requests_while_unloaded_wait_for_the_load() -> None:
    engine = scripted_engine()
    asked = [asyncio.ensure_future(generate(engine, request(5, n))) for n in range(3)]
    await until_waiting(engine, 3)
    assert str(engine.stats().state) == "unloaded"
    async with engine.run():
        assert all(len(ids) == WHOLE for ids, _ in await asyncio.gather(*asked))


async def test_an_engine_is_loaded_again_after_it_was_unloaded() -> None:
    engine = scripted_engine()
    pids: set[int | None] = set()
    for _ in range(2):
        async with engine.run():
            await engine.ready()
            assert str(engine.stats().state) == "ready"
            pids.add(worker_pid(engine))
            await generate(engine, request())
        assert (str(engine.stats().state), worker_pid(engine)) == ("unloaded", None)
        assert engine.info.weights_id == "scripted"
        waiting = asyncio.ensure_future(generate(engine, request()))
        await until_waiting(engine)
        async with engine.run():
            assert (await waiting)[1] is EndReason.LENGTH
    assert len(pids) == 2
    assert engine.stats().restarts == 0


async def test_ready_waits_for_the_next_load_after_an_unload() -> None:
    engine = scripted_engine()
    async with engine.run():
        await engine.ready()
    ready = asyncio.ensure_future(engine.ready())
    await asyncio.sleep(0)
    assert not ready.done()
    async with engine.run():
        await ready


async def test_an_unload_ends_running_requests_and_keeps_waiting_ones() -> None:
    engine = scripted_engine(max_sequences=1, step_s=0.005)
    async with engine.run():
        await engine.ready()
        running = asyncio.ensure_future(generate(engine, request(max_new_tokens=4000)))
        while engine.stats().running == 0:
            await asyncio.sleep(0.002)
        waiting = asyncio.ensure_future(generate(engine, request()))
        await until_waiting(engine)
    with pytest.raises(EngineUnavailable):
        await running
    async with engine.run():
        assert len((await waiting)[0]) == WHOLE
        await until_idle(engine)


async def test_the_engine_cannot_be_run_twice_at_a_time() -> None:
    engine = scripted_engine()
    async with engine.run():
        with pytest.raises(RuntimeError):
            async with engine.run():
                pass


async def test_closed_admission_ends_waiting_requests_for_good() -> None:
    engine = scripted_engine()
    waiting = asyncio.ensure_future(generate(engine, request()))
    await until_waiting(engine)
    engine.close_admission()
    for call in (waiting, generate(engine, request()), engine.ready()):
        with pytest.raises(EngineUnavailable, match="shut down"):
            await call
    assert engine.stats().waiting == 0


async def test_closed_admission_lets_running_requests_end() -> None:
    engine = scripted_engine(step_s=0.005)
    async with engine.run():
        await engine.ready()
        async with engine.open(request(max_new_tokens=100)) as run:
            await anext(run)
            engine.close_admission()
            with pytest.raises(EngineUnavailable):
                await generate(engine, request())
            async for _ in run:
                pass
    with pytest.raises(EngineUnavailable):
        await engine.ready()


async def test_a_request_is_refused_only_where_the_load_takes_too_long() -> None:
    expected_s: list[float | None] = [None]
    engine = QueuedEngine(
        [scripted_worker()],
        limits=scripted_limits(),
        capabilities=SCRIPTED_CAPABILITIES,
        policy=QueuePolicy(max_queue_wait_s=10),
        expected_load_s=lambda: expected_s[0],
    )
    for expected_s[0] in (None, 9.0):
        async with engine.open(request()) as run:
            assert run.position == 1
    expected_s[0] = 32.5
    with pytest.raises(ModelLoading, match="until the model is loaded") as refused:
        await generate(engine, request())
    assert refused.value.retry_after_s == 23
    async with engine.run():
        await engine.ready()
        await generate(engine, request())


async def test_requests_that_wait_for_a_load_that_fails_end_without_its_reason() -> None:
    engine = scripted_engine(refuse_load=True)
    waiting = asyncio.ensure_future(generate(engine, request()))
    await until_waiting(engine)
    async with engine.run():
        with pytest.raises(CheckpointRefused, match="could not be loaded"):
            await waiting
        with pytest.raises(EngineUnavailable, match="could not be loaded"):
            await generate(engine, request())
        with pytest.raises(CheckpointRefused, match="refused by the script"):
            await engine.ready()
        assert str(engine.stats().state) == "failed: refused by the script"


async def test_repeated_start_failures_fail_queued_requests_and_retrying_continues(tmp_path: Path) -> None:
    closed = tmp_path / "no engine"
    closed.touch()
    engine = scripted_engine(QueuePolicy(max_failed_starts=2, max_restart_delay_s=0.05), no_start_file=str(closed))
    waiting = asyncio.ensure_future(generate(engine, request()))
    await until_waiting(engine)
    async with engine.run():
        with pytest.raises(EngineUnavailable, match="could not be started"):
            await waiting
        assert engine.stats().state.phase is EnginePhase.FAILED
        closed.unlink()
        await until_phase(engine, EnginePhase.READY)
        await engine.ready()
        await generate(engine, request())


async def test_limits_are_those_given_until_a_worker_has_others() -> None:
    engine = QueuedEngine(
        [scripted_worker(context_tokens=64)], limits=scripted_limits(), capabilities=SCRIPTED_CAPABILITIES
    )
    assert engine.limits == scripted_limits()
    large = asyncio.ensure_future(generate(engine, request(*range(5, 105), max_new_tokens=50)))
    small = asyncio.ensure_future(generate(engine, request()))
    await until_waiting(engine, 2)
    async with engine.run():
        with pytest.raises(PromptTooLong, match=r"100 tokens.*64"):
            await large
        assert len((await small)[0]) == WHOLE
        assert (engine.limits.room_tokens, engine.limits.context_tokens) == (64, 64)


async def test_first_loads_wait_for_their_turn_at_the_gate() -> None:
    gate = Gate()
    first, second = gate.engine(load_s=0.3), gate.engine()
    async with first.run():
        await until_phase(first, EnginePhase.LOADING)
        async with second.run():
            await until_phase(second, EnginePhase.WAITING)
            assert (worker_pid(second), str(second.stats().state)) == (None, "waiting")
            async with second.open(request()) as run:
                assert run.position == 1
                await anext(run)
            assert first.stats().state.phase is EnginePhase.READY
    assert gate.entered == 2


async def test_no_watchdog_counts_while_a_load_waits_for_the_gate() -> None:
    gate = Gate()
    async with gate.enter():
        engine = gate.engine(QueuePolicy(max_failed_starts=1), load_timeout_s=0.2)
        async with engine.run():
            await until_phase(engine, EnginePhase.WAITING)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await engine.ready()
            assert engine.stats().state == EngineState(EnginePhase.WAITING)


async def test_a_restart_after_a_death_does_not_wait_at_the_gate() -> None:
    gate = Gate()
    engine = gate.engine()
    async with engine.run():
        await engine.ready()
        async with gate.enter():
            pid = worker_pid(engine)
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await until_phase(engine, EnginePhase.RESTARTING)
            await until_phase(engine, EnginePhase.READY)
    assert gate.entered == 2


async def test_a_failed_load_leaves_the_gate() -> None:
    gate = Gate()
    broken, sound = gate.engine(refuse_load=True), gate.engine()
    async with broken.run(), sound.run():
        await sound.ready()
        with pytest.raises(CheckpointRefused):
            await broken.ready()


async def test_cancelling_a_load_that_waits_for_the_gate_does_not_block_it() -> None:
    gate = Gate()
    async with gate.enter():
        engine = gate.engine()
        async with engine.run():
            await until_phase(engine, EnginePhase.WAITING)
    async with engine.run():
        await engine.ready()


async def test_a_constraint_is_checked_once_the_engine_runs_and_after_each_load() -> None:
    checker = scripted_engine(CHECKER_POLICY, max_sequences=1, answer=(5,))
    engine = scripted_engine(checker=ConstraintChecker(checker), answer=(5,))
    for letter in "ab":
        constrained = request(constraint=Constraint(kind="regex", source=f"{letter}+"))
        waiting = asyncio.ensure_future(generate(engine, constrained))
        await asyncio.sleep(0)
        async with engine.run():
            assert (await waiting)[1] is EndReason.EOS
        assert worker_pid(checker) is None
    checked = request(constraint=Constraint(kind="regex", source="a+"))
    waiting = asyncio.ensure_future(generate(engine, checked))
    unchecked = request(constraint=Constraint(kind="regex", source="c+"))
    refused = asyncio.ensure_future(generate(engine, unchecked))
    await until_waiting(engine)
    engine.close_admission()
    for call in (waiting, refused):
        with pytest.raises(EngineUnavailable):
            await call


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (EngineState(EnginePhase.LOADING, percent=39.6), "loading 40 %"),
        (EngineState(EnginePhase.LOADING), "loading"),
        (EngineState(EnginePhase.FAILED, reason="no such file"), "failed: no such file"),
    ],
)
def test_a_state_has_a_text_for_people(state: EngineState, text: str) -> None:
    assert str(state) == text
