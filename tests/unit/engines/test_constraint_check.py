"""The constraint check, on scripted checker engines that die, hang or are slow. Real processes."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from corral.core.errors import InvalidRequest
from corral.core.generation import Constraint
from corral.engines.constraint_check import ConstraintChecker
from corral.engines.policy import CHECKER_POLICY
from corral.engines.queued import QueuedEngine
from tests.engines import generate, request, scripted_engine, worker_pid

pytestmark = pytest.mark.anyio

FIRST_ID = 1
LETTERS = Constraint(kind="regex", source="[a-z]+")
SAYS = (5, 6, 7)


def checker_engine(*, step_timeout_s: float = 5.0, **script: Any) -> QueuedEngine:
    return scripted_engine(CHECKER_POLICY, max_sequences=1, step_timeout_s=step_timeout_s, **script)


def checked(checker: QueuedEngine) -> QueuedEngine:
    return scripted_engine(checker=ConstraintChecker(checker), answer=SAYS)


@pytest.mark.parametrize("fault", ["raise_id", "hang_id", "exit_id"])
async def test_a_constraint_that_kills_its_checker_is_refused_and_not_tried_again(fault: str) -> None:
    faults: dict[str, Any] = {fault: FIRST_ID}
    checker = checker_engine(step_timeout_s=0.3, answer=SAYS, **faults)
    engine = checked(checker)
    asked = replace(request(), constraint=LETTERS)
    async with engine.run():
        await engine.ready()
        free = asyncio.ensure_future(generate(engine, request()))
        for _ in range(2):
            with pytest.raises(InvalidRequest, match="compile"):
                await generate(engine, asked)
        assert (await free)[0][:3] == [*SAYS]
        assert checker.stats().restarts <= 1
        assert engine.stats().restarts == 0


async def test_a_constraint_that_slows_every_token_is_refused() -> None:
    engine = checked(checker_engine(answer=SAYS * 3, step_s=0.15))
    async with engine.run():
        await engine.ready()
        with pytest.raises(InvalidRequest, match="slows"):
            await generate(engine, replace(request(), constraint=LETTERS))


async def test_a_good_constraint_is_tried_once_and_its_checker_started_only_then() -> None:
    checker = checker_engine(answer=SAYS)
    engine = checked(checker)
    async with engine.run():
        await engine.ready()
        await generate(engine, request())
        assert worker_pid(checker) is None
        for _ in range(3):
            await generate(engine, replace(request(), constraint=LETTERS))
        assert checker.stats().emitted_tokens == len(SAYS) + 1
    assert worker_pid(checker) is None


async def test_checker_that_cannot_be_created_rejects_constraints() -> None:
    engine = checked(checker_engine(refuse_load=True))
    async with engine.run():
        await engine.ready()
        with pytest.raises(InvalidRequest, match="cannot be constrained"):
            await generate(engine, replace(request(), constraint=LETTERS))
        await generate(engine, request())


async def test_an_engine_of_hashes_refuses_constraints() -> None:
    engine = scripted_engine()
    async with engine.run():
        await engine.ready()
        with pytest.raises(InvalidRequest):
            await generate(engine, replace(request(), constraint=LETTERS))
