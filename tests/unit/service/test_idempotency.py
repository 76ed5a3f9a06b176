"""Requests with the same idempotency key are one run with one charge."""

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


async def test_repeated_request_attaches_to_the_run_during_and_after_it(database: Path) -> None:
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


async def test_twenty_concurrent_requests_with_one_key_are_one_run(database: Path) -> None:
    async with open_harness(database, step_s=0.001) as harness:
        answers = await asyncio.gather(*(harness.answer(SAMPLED, idempotency=once()) for _ in range(20)))
        assert len(set(answers)) == 1
        assert len(await harness.service.page(harness.caller)) == 1
        assert harness.engine.stats().emitted_tokens == 30


async def test_run_with_an_idempotency_key_continues_after_a_disconnect(database: Path) -> None:
    async with open_harness(database, step_s=0.002) as harness:
        undisturbed = await harness.answer(limited(40))
        async with harness.service.open(harness.ask(limited(40), idempotency=once())) as run:
            await anext(run.events())
        assert (await harness.answer(limited(40), idempotency=once())) == undisturbed
        assert (await harness.settled(run.id)).status is Status.SUCCEEDED
        assert harness.engine.stats().emitted_tokens == 80


async def test_request_repeated_after_a_disconnect_during_the_claim_is_one_run(database: Path) -> None:
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


async def test_idempotency_key_with_another_body_is_rejected(database: Path) -> None:
    async with open_harness(database) as harness:
        await harness.answer(limited(5), idempotency=once())
        with pytest.raises(IdempotencyConflict):
            await harness.answer(limited(6), idempotency=once(body="another body"))
        assert len(await harness.service.page(harness.caller)) == 1
        assert harness.engine.stats().emitted_tokens == 5


async def test_idempotency_keys_are_separate_per_account(database: Path) -> None:
    async with open_harness(database) as harness:
        await harness.answer(limited(5), idempotency=once())
        ann = harness.caller
        await harness.use_account(await harness.accounts.create("Bob", unlimited=True))
        await harness.answer(limited(6), idempotency=once(body="another body"))
        assert len(await harness.service.page(harness.caller)) == 1
        harness.caller, harness.account_id = ann, ann.account_id


async def test_request_rejected_by_a_full_queue_can_be_repeated(database: Path) -> None:
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


async def test_request_rejected_by_the_engine_can_be_repeated(database: Path) -> None:
    async with open_harness(database, refused_id=3 + ord("Q")) as harness:
        bad = replace(limited(5), prompt=RawPrompt("<s>Q"))
        for _ in range(2):
            with pytest.raises(InvalidRequest, match="refused by the script"):
                await harness.answer(bad, idempotency=once())
        first, second = await harness.service.page(harness.caller)
        assert first.id != second.id
        assert first.cost_nusd == second.cost_nusd == 0


async def test_repeated_request_of_a_canceled_run_is_canceled(database: Path) -> None:
    async with open_harness(database, step_s=0.002) as harness:
        async with harness.service.open(harness.ask(limited(1000), idempotency=once())) as run:
            await harness.service.cancel(harness.caller, run.id)
        with pytest.raises(Canceled):
            await harness.answer(limited(1000), idempotency=once())
        assert len(await harness.service.page(harness.caller)) == 1


async def test_repeated_request_of_a_privacy_key_returns_no_text_and_does_not_run(database: Path) -> None:
    async with open_harness(database, "secret", terms={"privacy": True}) as harness:
        assert (await harness.answer(idempotency=once())).choices[0].text == "secret"
        async with harness.service.open(harness.ask(idempotency=once())) as run:
            with pytest.raises(DataRemoved):
                await collected(run)
        assert harness.engine.stats().emitted_tokens == len("secret") + 1
