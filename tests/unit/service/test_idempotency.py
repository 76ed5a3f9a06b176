"""Requests with one key are one request: one run, one charge, whenever they come."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from corral.core.errors import Canceled, DataRemoved, IdempotencyConflict, InvalidRequest, Overloaded
from corral.core.generation import RawPrompt, Sampling
from corral.core.prediction import Status
from corral.engines.policy import QueuePolicy
from tests.unit.service.harness import (
    HELLO_TOKENS,
    PRICE,
    collected,
    limited,
    numbered,
    once,
    open_harness,
    split_deltas,
)

pytestmark = pytest.mark.anyio

SAMPLED = replace(limited(30), sampling=Sampling(temperature=1))


async def test_the_same_request_attaches_to_the_run_while_it_goes_and_after_it(database: Path) -> None:
    async with open_harness(database, step_s=0.002) as harness:
        ask = harness.ask(SAMPLED, idempotency=once())
        async with harness.service.open(ask) as first, harness.service.open(ask) as second:
            assert (first.attached, second.attached) == (False, True)
            assert first.id == second.id
            one, two = await asyncio.gather(numbered(first), numbered(second))
        async with harness.service.open(ask) as third:
            assert (third.id, third.attached) == (first.id, True)
            three = await numbered(third)
        assert one == two == split_deltas(three)
        assert len(await harness.service.page(harness.caller)) == 1
        assert harness.engine.stats().emitted_tokens == 30
        spent = 10**9 - (await harness.account()).available_nusd
        assert spent == HELLO_TOKENS * PRICE.input_nusd + 30 * PRICE.output_nusd


async def test_twenty_at_the_same_moment_are_one_run(database: Path) -> None:
    async with open_harness(database, step_s=0.001) as harness:
        answers = await asyncio.gather(*(harness.answer(SAMPLED, idempotency=once()) for _ in range(20)))
        assert len(set(answers)) == 1
        assert len(await harness.service.page(harness.caller)) == 1
        assert harness.engine.stats().emitted_tokens == 30


async def test_a_run_with_a_key_goes_on_when_its_client_goes_away(database: Path) -> None:
    async with open_harness(database, step_s=0.002) as harness:
        undisturbed = await harness.answer(limited(40))
        async with harness.service.open(harness.ask(limited(40), idempotency=once())) as run:
            await anext(run.events())
        assert (await harness.answer(limited(40), idempotency=once())) == undisturbed
        assert (await harness.settled(run.id)).status is Status.SUCCEEDED
        assert harness.engine.stats().emitted_tokens == 80


async def test_a_client_that_goes_away_during_the_claim_finds_the_run_again(database: Path) -> None:
    async with open_harness(database) as harness:
        for turns in range(6):
            key = once(f"key {turns}")
            calling = asyncio.create_task(harness.answer(limited(40), idempotency=key))
            for _ in range(turns):
                await asyncio.sleep(0)
            calling.cancel()
            await asyncio.wait([calling])
            assert len((await harness.answer(limited(40), idempotency=key)).choices[0].ids) == 40
        assert harness.engine.stats().emitted_tokens == 6 * 40


async def test_the_same_key_with_another_body_is_refused_and_changes_nothing(database: Path) -> None:
    async with open_harness(database) as harness:
        await harness.answer(limited(5), idempotency=once())
        with pytest.raises(IdempotencyConflict):
            await harness.answer(limited(6), idempotency=once(body="another body"))
        assert len(await harness.service.page(harness.caller)) == 1
        assert harness.engine.stats().emitted_tokens == 5


async def test_keys_of_different_accounts_have_nothing_to_do_with_each_other(database: Path) -> None:
    async with open_harness(database) as harness:
        await harness.answer(limited(5), idempotency=once())
        ann = harness.caller
        await harness.use_account(await harness.accounts.create("Bob", unlimited=True))
        await harness.answer(limited(6), idempotency=once(body="another body"))
        assert len(await harness.service.page(harness.caller)) == 1
        harness.caller, harness.account_id = ann, ann.account_id


async def test_a_request_that_the_engine_has_no_room_for_may_be_made_again(database: Path) -> None:
    policy = QueuePolicy(max_waiting=1)
    async with open_harness(database, policy=policy, max_sequences=1, step_s=0.002) as harness:
        async with harness.service.open(harness.ask(limited(1000))), harness.service.open(harness.ask(limited(1000))):
            with pytest.raises(Overloaded):
                await harness.answer(limited(5), idempotency=once())
            assert [one.status.terminal for one in await harness.service.page(harness.caller)] == [False, False]
            (refused,) = await harness.not_admitted()
            assert (refused.status, refused.cost_nusd, refused.hold_nusd) == (Status.FAILED, 0, 0)
        await harness.balanced()
        assert len((await harness.answer(limited(5), idempotency=once())).choices[0].ids) == 5


async def test_a_request_that_the_engine_refuses_may_be_made_again(database: Path) -> None:
    async with open_harness(database, refused_id=3 + ord("Q")) as harness:
        bad = replace(limited(5), prompt=RawPrompt("<s>Q"))
        for _ in range(2):
            with pytest.raises(InvalidRequest, match="refused by the script"):
                await harness.answer(bad, idempotency=once())
        first, second = await harness.service.page(harness.caller)
        assert first.id != second.id
        assert first.cost_nusd == second.cost_nusd == 0


async def test_a_cancelled_run_stays_cancelled_for_those_who_ask_again(database: Path) -> None:
    async with open_harness(database, step_s=0.002) as harness:
        async with harness.service.open(harness.ask(limited(1000), idempotency=once())) as run:
            await harness.service.cancel(harness.caller, run.id)
        with pytest.raises(Canceled):
            await harness.answer(limited(1000), idempotency=once())
        assert len(await harness.service.page(harness.caller)) == 1


async def test_what_a_privacy_key_asked_is_not_told_again_and_not_run_again(database: Path) -> None:
    async with open_harness(database, "secret", terms={"privacy": True}) as harness:
        assert (await harness.answer(idempotency=once())).choices[0].text == "secret"
        async with harness.service.open(harness.ask(idempotency=once())) as run:
            with pytest.raises(DataRemoved):
                await collected(run)
        assert harness.engine.stats().emitted_tokens == len("secret") + 1
