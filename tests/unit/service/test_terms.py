"""What must hold before a run: scopes, models, credit, caps and limits. A refusal costs and computes nothing."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from corral.core.accounts import Limits, Scope
from corral.core.errors import CorralError, InsufficientCredit, PermissionDenied, RateLimited, Unauthenticated
from corral.core.generation import Stopping
from corral.service.accounts.api_keys import KeyTerms
from tests.unit.service.desk import HELLO, HELLO_TOKENS, PRICE, Desk, limited, open_desk

pytestmark = pytest.mark.anyio

WORST_NUSD = HELLO_TOKENS * PRICE.input_nusd + 10 * PRICE.output_nusd
"""Of ten tokens."""


async def refused(desk: Desk, error: type[CorralError], **terms: Any) -> CorralError:
    """The refusal of ten tokens, after which everything is as before."""
    emitted, before = desk.engine.stats().emitted_tokens, await desk.account()
    with pytest.raises(error) as caught:
        await desk.answer(limited(10), **terms)
    assert desk.engine.stats().emitted_tokens == emitted
    assert await desk.account() == before
    return caught.value


async def test_the_estimate_is_what_is_held(database: Path) -> None:
    async with open_desk(database, step_s=0.005) as desk:
        ask = desk.ask(limited(10, choices=3))
        estimate = await desk.service.estimate(ask)
        assert await desk.service.page(desk.caller) == []
        assert (estimate.prompt_tokens, estimate.max_completion_tokens) == (HELLO_TOKENS, 30)
        assert estimate.prompt_nusd == HELLO_TOKENS * PRICE.input_nusd
        assert estimate.worst_case_nusd == HELLO_TOKENS * PRICE.input_nusd + 30 * PRICE.output_nusd
        async with desk.service.open(ask) as run:
            assert (await desk.account()).held_nusd == estimate.worst_case_nusd
            assert (await desk.service.get(desk.caller, run.id)).hold_nusd == estimate.worst_case_nusd
            assert run.price == estimate.price


async def test_credit_for_the_worst_case_is_enough_and_a_nano_dollar_less_is_not(database: Path) -> None:
    async with open_desk(database, credit_nusd=WORST_NUSD - 1) as desk:
        await refused(desk, InsufficientCredit)
        await desk.give(1)
        await desk.answer(limited(10))
        assert (await desk.account()).available_nusd == 0


async def test_what_was_held_and_not_used_is_credit_again(database: Path) -> None:
    async with open_desk(database, "four") as desk:
        await desk.answer(limited(1000))
        cost = HELLO_TOKENS * PRICE.input_nusd + (len("four") + 1) * PRICE.output_nusd
        assert (await desk.account()).available_nusd == 10**9 - cost


async def test_the_callers_own_cap_is_kept_to_the_nano_dollar(database: Path) -> None:
    async with open_desk(database) as desk:
        await refused(desk, InsufficientCredit, max_cost_nusd=WORST_NUSD - 1)
        await desk.answer(limited(10), max_cost_nusd=WORST_NUSD)


@pytest.mark.parametrize(
    ("limits", "terms", "error"),
    [
        (Limits(spend_per_day_nusd=WORST_NUSD), {}, InsufficientCredit),
        (Limits(spend_per_month_nusd=WORST_NUSD), {}, InsufficientCredit),
        (Limits(), {"spend_limit_nusd": WORST_NUSD}, InsufficientCredit),
        (Limits(requests_per_minute=1), {}, RateLimited),
        (Limits(tokens_per_minute=HELLO_TOKENS + 15), {}, RateLimited),
    ],
)
async def test_the_second_run_is_one_too_many(
    database: Path, limits: Limits, terms: dict[str, Any], error: type[CorralError]
) -> None:
    async with open_desk(database, limits=limits, terms=terms) as desk:
        await desk.answer(limited(10))
        await refused(desk, error)


async def test_no_more_run_at_once_than_the_account_may(database: Path) -> None:
    async with (
        open_desk(database, limits=Limits(concurrent_runs=2), step_s=0.01) as desk,
        desk.service.open(desk.ask(limited(500))),
        desk.service.open(desk.ask(limited(500))) as second,
    ):
        with pytest.raises(RateLimited):
            await desk.answer(limited(10))
        await desk.service.cancel(desk.caller, second.id)
        await desk.answer(limited(10))


@pytest.mark.parametrize(
    ("terms", "error"),
    [
        ({"scopes": frozenset({Scope.READ})}, PermissionDenied),
        ({"models": ("meta/llama-2-7b-chat",)}, PermissionDenied),
    ],
)
async def test_a_key_runs_only_what_it_is_for(database: Path, terms: dict[str, Any], error: type[CorralError]) -> None:
    async with open_desk(database, terms=terms) as desk:
        await refused(desk, error)
        with pytest.raises(error):
            await desk.service.estimate(desk.ask(limited(10)))
        assert await desk.service.page(desk.caller) == []


async def test_a_key_to_read_sees_and_does_not_stop_and_one_to_manage_sees_nothing(database: Path) -> None:
    async with open_desk(database, step_s=0.005) as desk, desk.service.open(desk.ask(limited(50))) as run:
        ann, account = desk.caller, await desk.account()
        reader = await desk.take_seat(account, scopes=frozenset({Scope.READ}))
        assert (await desk.service.get(reader, run.id)).id == run.id
        assert (await desk.service.attach(reader, run.id)).id == run.id
        with pytest.raises(PermissionDenied):
            await desk.service.cancel(reader, run.id)
        clerk = await desk.take_seat(account, scopes=frozenset({Scope.ADMIN}))
        for look in (desk.service.get, desk.service.attach, desk.service.cancel):
            with pytest.raises(PermissionDenied):
                await look(clerk, run.id)
        with pytest.raises(PermissionDenied):
            await desk.service.page(clerk)
        runner = await desk.take_seat(account, scopes=frozenset({Scope.INFERENCE}))
        assert [one.id for one in await desk.service.page(runner)] == [run.id]
        desk.caller = ann


async def test_a_revoked_key_runs_nothing_though_its_caller_was_let_in_before(database: Path) -> None:
    async with open_desk(database) as desk:
        ann, account = desk.caller, await desk.account()
        key, secret = await desk.keys.create(account.id, KeyTerms(name="lost"))
        caller = await desk.keys.authenticate(secret)
        assert caller is not None
        desk.caller = caller
        await desk.answer(limited(10))
        await desk.keys.revoke(key.id)
        await refused(desk, Unauthenticated)
        desk.caller = ann


async def test_of_forty_at_once_exactly_those_run_that_the_credit_covers(database: Path) -> None:
    async with open_desk(database, credit_nusd=10 * WORST_NUSD, step_s=0.002) as desk:
        results = await asyncio.gather(*(desk.answer(limited(10)) for _ in range(40)), return_exceptions=True)
        done = [result for result in results if not isinstance(result, BaseException)]
        assert len(done) == 10
        assert {type(result) for result in results if isinstance(result, BaseException)} == {InsufficientCredit}
        assert (await desk.account()).available_nusd == 0
        assert desk.engine.stats().emitted_tokens == 100


async def test_without_a_limit_of_tokens_the_whole_context_is_held(database: Path) -> None:
    async with open_desk(database, "short", context_tokens=128) as desk:
        estimate = await desk.service.estimate(desk.ask(replace(HELLO, stopping=Stopping())))
        assert estimate.max_completion_tokens == 128 - HELLO_TOKENS
