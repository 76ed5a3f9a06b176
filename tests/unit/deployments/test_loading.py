"""Deployments within one memory budget: which are loaded, which leave, what is refused. Scripted, in real processes."""

import asyncio
from typing import Any

import pytest

from corral.core.errors import DeploymentInUse, EngineUnavailable, InsufficientMemory, UnknownDeployment
from corral.deployments.deployment import Deployment, LoadPolicy
from corral.deployments.memory import MemoryBudget
from corral.deployments.registry import Deployments
from corral.engines.stats import EnginePhase
from tests.engines import DEADLINE_S, generate, request, scripted_engine
from tests.prompts import encoder
from tests.unit.service.harness import ByteTokenizer

pytestmark = pytest.mark.anyio


def deployment(name: str, *, load: str = "on-demand", idle_unload_s: float | None = None, **script: Any) -> Deployment:
    return Deployment(
        name=name,
        engine=scripted_engine(**script),
        prompts=encoder(ByteTokenizer()),
        load=LoadPolicy(load),
        idle_unload_s=idle_unload_s,
        memory_bytes=1,
        load_bytes=1,
    )


async def until(deployments: Deployments, name: str, phase: EnginePhase) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while deployments.status(name).state.phase is not phase:
            await asyncio.sleep(0.005)


async def use(deployments: Deployments, one: Deployment, tokens: int = 1) -> list[int]:
    """A run's way through the registry."""
    deployments.hold(one)
    deployments.request_load(one)
    try:
        ids, _ = await generate(one.engine, request(max_new_tokens=tokens, ignore_eos=True))
        return ids
    finally:
        deployments.release(one)


def phases(deployments: Deployments) -> dict[str, str]:
    return {status.name: str(status.state.phase) for status in deployments.statuses()}


async def test_the_first_run_loads_an_on_demand_deployment() -> None:
    one = deployment("a")
    deployments = Deployments([one], memory_bytes=1)
    async with deployments.run():
        assert phases(deployments) == {"a": "unloaded"}
        assert deployments.ready
        assert len(await use(deployments, one, 3)) == 3
        assert phases(deployments) == {"a": "ready"}


async def test_least_recently_used_idle_deployment_is_evicted() -> None:
    a, b, c = deployment("a"), deployment("b"), deployment("c")
    deployments = Deployments([a, b, c], memory_bytes=2)
    async with deployments.run():
        for one in (a, b, a, c):
            await use(deployments, one)
        assert phases(deployments) == {"a": "ready", "b": "unloaded", "c": "ready"}


async def test_busy_deployment_is_not_evicted_until_its_run_ends() -> None:
    a, b = deployment("a"), deployment("b")
    deployments = Deployments([a, b], memory_bytes=1)
    async with deployments.run():
        await use(deployments, a)
        deployments.hold(a)
        waiting = asyncio.create_task(use(deployments, b))
        await until(deployments, "b", EnginePhase.WAITING)
        assert phases(deployments)["a"] == "ready"
        deployments.release(a)
        assert await waiting
        assert phases(deployments) == {"a": "unloaded", "b": "ready"}


async def test_deployment_is_unloaded_after_its_idle_time() -> None:
    one = deployment("a", idle_unload_s=0.05)
    deployments = Deployments([one], memory_bytes=1)
    async with deployments.run():
        await use(deployments, one)
        await until(deployments, "a", EnginePhase.UNLOADED)
        assert await use(deployments, one)


class Clients:
    """Ask a deployment without a pause, so that it is never idle; each answer is counted."""

    def __init__(self, deployments: Deployments, one: Deployment, tasks: asyncio.TaskGroup) -> None:
        self._deployments = deployments
        self._one = one
        self._stopping = False
        self.answers = 0
        self.tasks = [tasks.create_task(self._ask()) for _ in range(3)]

    async def _ask(self) -> None:
        while not self._stopping:
            assert len(await use(self._deployments, self._one, 12)) == 12
            self.answers += 1

    async def answered(self, count: int) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while self.answers < count:
                await asyncio.sleep(0.005)

    async def stop(self) -> None:
        """Return when their last requests are answered."""
        self._stopping = True
        await asyncio.gather(*self.tasks)


async def test_a_deployment_that_is_never_idle_drains_for_one_that_has_waited_long() -> None:
    busy, other = deployment("busy", step_s=0.005), deployment("other")
    deployments = Deployments([busy, other], memory_bytes=1, patience_s=0.3)
    async with deployments.run(), asyncio.TaskGroup() as tasks:
        clients = Clients(deployments, busy, tasks)
        await clients.answered(3)
        async with asyncio.timeout(DEADLINE_S):
            assert await use(deployments, other)
        answers = clients.answers
        await clients.answered(answers + 3)  # those that came meanwhile were not refused: they waited for the next load
        await clients.stop()


async def test_two_deployments_in_one_place_take_turns_however_long_they_load() -> None:
    a, b = (deployment(name, load_s=0.5, step_s=0.005) for name in "ab")
    deployments = Deployments([a, b], memory_bytes=1, patience_s=0.1)
    async with deployments.run(), asyncio.TaskGroup() as tasks:
        clients = [Clients(deployments, one, tasks) for one in (a, b)]
        for one in clients:
            await one.answered(7)
        await asyncio.gather(*(one.stop() for one in clients))


async def test_deployment_larger_than_memory_is_rejected_with_both_sizes_and_retried() -> None:
    pinned, other = deployment("pinned", load="start"), deployment("other")
    deployments = Deployments([pinned, other], memory_bytes=1)
    async with deployments.run():
        await until(deployments, "pinned", EnginePhase.READY)
        with pytest.raises(EngineUnavailable, match="cannot be loaded now"):
            await use(deployments, other)
        reason = deployments.status("other").state.reason
        assert reason == str(InsufficientMemory("other", needed_bytes=1, available_bytes=0))
        await deployments.unload("pinned")
        assert await use(deployments, other)


async def test_a_failed_load_leaves_others_alone() -> None:
    good, bad = deployment("good", load="start"), deployment("bad", load="start", refuse_load=True)
    deployments = Deployments([bad, good], memory_bytes=2)
    async with deployments.run():
        assert await deployments.started() is None
        assert phases(deployments) == {"bad": "failed", "good": "ready"}
        assert await use(deployments, good)


async def test_a_deployment_in_use_is_unloaded_by_drain_only() -> None:
    one = deployment("a", step_s=0.01)
    deployments = Deployments([one], memory_bytes=1)
    async with deployments.run():
        running = asyncio.create_task(use(deployments, one, 20))
        await until(deployments, "a", EnginePhase.READY)
        with pytest.raises(DeploymentInUse, match="used by 1 run"):
            await deployments.unload("a")
        await deployments.unload("a", drain=True)
        assert len(await running) == 20
        await deployments.load("a")
        await until(deployments, "a", EnginePhase.READY)


async def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownDeployment, match=r"'b' not found\. There are: a\."):
        await Deployments([deployment("a")]).load("b")


def test_memory_is_reserved_once() -> None:
    budget = MemoryBudget(10)
    budget.reserve("a", 8)
    with pytest.raises(InsufficientMemory):
        budget.reserve("b", 3)
    budget.reserve("a", 7)
    budget.reserve("b", 3)
    budget.release("a")
    assert budget.available_bytes == 7
