"""Engines for tests: how to start one, and short ways to ask it for tokens."""

import asyncio
import os
from collections.abc import Coroutine
from typing import Any

import pytest

from corral.core.generation import Sampling
from corral.engines.base import EndReason, Engine, EngineRequest, TokenBatch
from corral.engines.supervisor import SupervisedEngine, SupervisorPolicy, WorkerLaunch

GREEDY = Sampling(temperature=0)
DEADLINE_S = 30.0
STOP_IDS = frozenset({2})
"""EOS of the scripted engine and of the random models."""


def scripted_engine(policy: SupervisorPolicy | None = None, **options: Any) -> SupervisedEngine:
    """A scripted engine in a real worker process; *options* as in ScriptedOptions."""
    launch = WorkerLaunch(engine="scripted", options=options, environment=dict(os.environ))
    return SupervisedEngine(launch, policy=policy)


def request(
    *prompt_ids: int,
    max_new_tokens: int = 16,
    min_new_tokens: int = 0,
    seed: int = 0,
    sampling: Sampling = GREEDY,
    ignore_eos: bool = False,
    flow: str = "",
) -> EngineRequest:
    """An engine request with defaults fit for tests."""
    return EngineRequest(
        prompt_ids=prompt_ids or (5, 6, 7),
        max_new_tokens=max_new_tokens,
        min_new_tokens=min_new_tokens,
        seed=seed,
        sampling=sampling,
        stop_ids=STOP_IDS,
        ignore_eos=ignore_eos,
        flow=flow,
    )


def worker_pid(engine: Engine) -> int | None:
    """Process of the worker that computes most sequences; None if it has none now."""
    return max(engine.stats().workers, key=lambda worker: worker.running).pid


async def generate(engine: Engine, asked: EngineRequest) -> tuple[list[int], EndReason | None]:
    """All token ids of a request and why it ended."""
    ids: list[int] = []
    end = None
    async with engine.open(asked) as batches:
        async for batch in batches:
            ids += batch.ids
            end = batch.end
    return ids, end


async def pieces(engine: Engine, asked: EngineRequest) -> list[TokenBatch]:
    """All batches of a request."""
    async with engine.open(asked) as run:
        return [batch async for batch in run]


async def until_idle(engine: Engine) -> None:
    """Return when nothing runs, nothing waits and no block is held."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            stats = engine.stats()
            parts_tokens = stats.delivered_tokens + stats.discarded_tokens + stats.replayed_tokens
            assert stats.emitted_tokens == parts_tokens
            if stats.running == stats.waiting == stats.kv_blocks_reserved == stats.kv_usage_percent == 0:
                return
            await asyncio.sleep(0.005)


async def until_emitted(engine: Engine, tokens: int = 1) -> None:
    """Return when the engine has emitted so many tokens since its start."""
    async with asyncio.timeout(DEADLINE_S):
        while engine.stats().emitted_tokens < tokens:
            await asyncio.sleep(0.005)


async def give_up_once_emitting(engine: Engine, call: Coroutine[Any, Any, object]) -> None:
    """Wait for a call's answer only until the engine has emitted a token for it, then cancel the call."""
    calling = asyncio.create_task(call)
    await until_emitted(engine, engine.stats().emitted_tokens + 1)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
