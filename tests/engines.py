"""Engines for tests: how to start one, and short ways to ask it for tokens."""

import asyncio
import os
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from corral.core.generation import Constraint, Sampling
from corral.engines.base import EndReason, Engine, EngineLimits, EngineRequest, TokenBatch
from corral.engines.constraint_check import ConstraintChecker
from corral.engines.policy import QueuePolicy
from corral.engines.queued import QueuedEngine
from corral.engines.scripted import SCRIPTED_CAPABILITIES, ScriptedOptions
from corral.engines.subprocess.worker import LOAD_TIMEOUT_S, STEP_TIMEOUT_S, SubprocessWorker, WorkerLaunch

GREEDY = Sampling(temperature=0)
DEADLINE_S = 60.0
STOP_IDS = frozenset({2})
"""EOS of the scripted engine and of the random models."""


def scripted_worker(
    *,
    step_timeout_s: float = STEP_TIMEOUT_S,
    load_timeout_s: float = LOAD_TIMEOUT_S,
    load_gate: Callable[[], AbstractAsyncContextManager[None]] | None = None,
    **options: Any,
) -> SubprocessWorker:
    """A scripted worker in a real process; *options* as in ScriptedOptions."""
    launch = WorkerLaunch(engine="scripted", options=options, environment=dict(os.environ))
    return SubprocessWorker(launch, step_timeout_s=step_timeout_s, load_timeout_s=load_timeout_s, load_gate=load_gate)


def scripted_limits(*, max_sequences: int = 256, **options: Any) -> EngineLimits:
    """What is known of a scripted worker before its load; *options* as in ScriptedOptions."""
    script = ScriptedOptions(**options)
    return EngineLimits(
        vocab_size=script.vocab_size,
        context_tokens=script.context_tokens,
        room_tokens=min(script.context_tokens, script.kv_blocks * script.kv_block_tokens),
        max_sequences=max_sequences,
    )


def scripted_engine(
    policy: QueuePolicy | None = None,
    *,
    workers: int = 1,
    max_sequences: int = 256,
    step_timeout_s: float = STEP_TIMEOUT_S,
    load_timeout_s: float = LOAD_TIMEOUT_S,
    checker: ConstraintChecker | None = None,
    **options: Any,
) -> QueuedEngine:
    """An engine on scripted workers in real processes; *options* as in ScriptedOptions."""
    made = [
        scripted_worker(step_timeout_s=step_timeout_s, load_timeout_s=load_timeout_s, **options) for _ in range(workers)
    ]
    limits = scripted_limits(max_sequences=max_sequences, **options)
    return QueuedEngine(made, limits=limits, capabilities=SCRIPTED_CAPABILITIES, policy=policy, checker=checker)


def request(
    *prompt_ids: int,
    max_new_tokens: int = 16,
    min_new_tokens: int = 0,
    seed: int = 0,
    sampling: Sampling = GREEDY,
    ignore_eos: bool = False,
    flow: str = "",
    constraint: Constraint | None = None,
    low_priority: bool = False,
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
        constraint=constraint,
        low_priority=low_priority,
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
