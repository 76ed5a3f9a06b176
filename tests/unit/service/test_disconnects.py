"""A client that disconnects pays for the tokens that the engine emitted until then."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from corral.core.errors import Canceled
from corral.core.generation import Delta, Finished, Sampling
from corral.core.prediction import Status, StoppedBy
from corral.service.ports import PredictionEvents
from tests.unit.service.harness import HELLO_TOKENS, PRICE, collected, limited, numbered, open_harness

pytestmark = pytest.mark.anyio


async def read_until(run: PredictionEvents, tokens: int) -> None:
    async for _, event in run.events():
        if isinstance(event, Delta) and event.completion_tokens >= tokens:
            return


@pytest.mark.parametrize("tokens", [1, 10, 50])
async def test_disconnect_is_billed_for_the_tokens_emitted_until_then(database: Path, tokens: int) -> None:
    async with open_harness(database, step_s=0.002) as harness:
        async with harness.service.open(harness.ask(limited(50))) as run:
            await read_until(run, tokens)
        stored = await harness.settled(run.id)
        assert tokens <= stored.completion_tokens <= 50
        if tokens == 50:
            assert stored.status is Status.SUCCEEDED
        else:
            assert stored.stopped_by is StoppedBy.DISCONNECT
            assert stored.status is Status.CANCELED
            assert stored.completion_tokens < 50
        assert stored.cost_nusd == HELLO_TOKENS * PRICE.input_nusd + stored.completion_tokens * PRICE.output_nusd
        assert harness.engine.stats().delivered_tokens == stored.completion_tokens
        again = await harness.service.attach(harness.caller, run.id)
        token_ids: list[int] = []
        try:
            async for _, event in again.events():
                token_ids += event.ids if isinstance(event, Delta) else ()
        except Canceled:
            assert stored.status is Status.CANCELED
        assert len(token_ids) == stored.completion_tokens


async def test_disconnect_before_the_first_token_costs_nothing(database: Path) -> None:
    async with open_harness(database, step_s=0.2) as harness:
        async with harness.service.open(harness.ask(limited(50))) as run:
            pass
        stored = await harness.settled(run.id)
        assert (stored.cost_nusd, stored.completion_tokens, stored.output) == (0, 0, None)
        assert stored.stopped_by is StoppedBy.DISCONNECT
        assert (stored.prompt_tokens, stored.admitted_at_ms, stored.started_at_ms) == (0, None, None)


async def test_disconnect_during_the_claim_releases_the_hold(database: Path) -> None:
    async with open_harness(database) as harness:

        async def call() -> None:
            async with harness.service.open(harness.ask(limited(1000))):
                pytest.fail("entered")

        for turns in range(8):  # every place at which it may be suspended
            calling = asyncio.create_task(call())
            for _ in range(turns):
                await asyncio.sleep(0)
            calling.cancel()
            await asyncio.wait([calling])
            assert calling.cancelled()
        await harness.answer(limited(1))  # claimed after all of those, for claims are made in turn
        await harness.balanced()
        ends = {(one.stopped_by, one.completion_tokens) for one in await harness.service.page(harness.caller)}
        assert ends == {(StoppedBy.LIMIT, 1), (StoppedBy.DISCONNECT, 0)}


async def test_disconnect_stops_and_bills_all_choices(database: Path) -> None:
    async with open_harness(database, step_s=0.002) as harness:
        sampled = replace(limited(500), sampling=Sampling(temperature=1), choices=4)
        async with harness.service.open(harness.ask(sampled)) as run:
            await read_until(run, 10)
        stored = await harness.settled(run.id)
        assert 37 <= stored.completion_tokens < 2000  # the other three may be a step behind
        assert harness.engine.stats().delivered_tokens == stored.completion_tokens
        assert stored.cost_nusd == HELLO_TOKENS * PRICE.input_nusd + stored.completion_tokens * PRICE.output_nusd


async def test_concurrent_disconnects_are_each_billed_for_their_own_tokens(database: Path) -> None:
    async with open_harness(database, step_s=0.001) as harness:

        async def one(tokens: int) -> str:
            async with harness.service.open(harness.ask(limited(120))) as run:
                await read_until(run, tokens)
            return run.id

        ids = await asyncio.gather(*(one(3 * k) for k in range(40)))
        stored = [await harness.settled(one_id) for one_id in ids]
        assert all(3 * k <= prediction.completion_tokens for k, prediction in enumerate(stored))
        assert sum(one.completion_tokens for one in stored) == harness.engine.stats().delivered_tokens


async def test_background_run_continues_without_its_reader(database: Path) -> None:
    async with open_harness(database, step_s=0.002) as harness:
        undisturbed = await harness.answer(limited(50))
        async with harness.service.open(harness.ask(limited(50), background=True)) as run:
            await read_until(run, 5)
        result = await collected(await harness.service.attach(harness.caller, run.id))
        assert result == undisturbed
        assert (await harness.settled(run.id)).status is Status.SUCCEEDED


async def test_cancel_returns_the_settled_run_and_ends_its_readers(database: Path) -> None:
    async with open_harness(database, step_s=0.002) as harness:
        async with harness.service.open(harness.ask(limited(1000), background=True)) as run:
            await read_until(run, 5)
            cancelled = await harness.service.cancel(harness.caller, run.id)
            assert (cancelled.status, cancelled.stopped_by) == (Status.CANCELED, StoppedBy.CALLER)
            assert 5 <= cancelled.completion_tokens < 1000
            assert cancelled.hold_nusd == 0
            assert cancelled.output is not None
            with pytest.raises(Canceled):
                await numbered(run)
        again = await harness.service.cancel(harness.caller, run.id)
        assert again == cancelled
        with pytest.raises(Canceled):
            await numbered(await harness.service.attach(harness.caller, run.id))


async def test_cancel_of_a_finished_run_changes_nothing(database: Path) -> None:
    async with open_harness(database, "all of it") as harness:
        async with harness.service.open(harness.ask()) as run:
            seen = await numbered(run)
            assert isinstance(seen[-1][1], Finished)
        before = await harness.settled(run.id)
        assert await harness.service.cancel(harness.caller, run.id) == before
        assert before.texts == ["all of it"]
