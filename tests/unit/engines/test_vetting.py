"""Vetting on scripted stand-ins that die, hang or dawdle. Real processes."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from corral.core.errors import InvalidRequest
from corral.core.generation import Constraint
from corral.engines.supervisor import STAND_IN_POLICY, SupervisedEngine
from corral.engines.vetting import ConstraintVetting
from tests.engines import generate, request, scripted_engine, worker_pid

pytestmark = pytest.mark.anyio

FIRST_ID = 1
LETTERS = Constraint(kind="regex", source="[a-z]+")
SAYS = (5, 6, 7)


def vetted(stand_in: SupervisedEngine) -> SupervisedEngine:
    engine = scripted_engine(answer=SAYS)
    return SupervisedEngine(engine._launch, vetting=ConstraintVetting(stand_in))  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("fault", ["raise_id", "hang_id", "exit_id"])
async def test_a_constraint_that_kills_its_stand_in_is_refused_and_not_tried_again(fault: str) -> None:
    faults: dict[str, Any] = {fault: FIRST_ID}
    stand_in = scripted_engine(replace(STAND_IN_POLICY, step_timeout_s=0.3), answer=SAYS, **faults)
    engine = vetted(stand_in)
    asked = replace(request(), constraint=LETTERS)
    async with engine.run():
        await engine.ready()
        free = asyncio.ensure_future(generate(engine, request()))
        for _ in range(2):
            with pytest.raises(InvalidRequest, match="compile"):
                await generate(engine, asked)
        assert (await free)[0][:3] == [*SAYS]
        assert stand_in.stats().restarts <= 1
        assert engine.stats().restarts == 0


async def test_a_constraint_that_slows_every_token_is_refused() -> None:
    engine = vetted(scripted_engine(STAND_IN_POLICY, answer=SAYS * 3, step_s=0.15))
    async with engine.run():
        await engine.ready()
        with pytest.raises(InvalidRequest, match="slows"):
            await generate(engine, replace(request(), constraint=LETTERS))


async def test_a_good_constraint_is_tried_once_and_its_stand_in_started_only_then() -> None:
    stand_in = scripted_engine(STAND_IN_POLICY, answer=SAYS)
    engine = vetted(stand_in)
    async with engine.run():
        await engine.ready()
        await generate(engine, request())
        assert worker_pid(stand_in) is None
        for _ in range(3):
            await generate(engine, replace(request(), constraint=LETTERS))
        assert stand_in.stats().emitted_tokens == len(SAYS) + 1
    assert worker_pid(stand_in) is None


async def test_a_stand_in_that_cannot_be_made_constrains_nothing() -> None:
    engine = vetted(scripted_engine(STAND_IN_POLICY, refuse_load=True))
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
