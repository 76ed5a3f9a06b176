"""Checks before a run: scopes, models, credit, cost limits and rate limits. A rejection costs and computes nothing."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from corral.core.accounts import Limits, Scope
from corral.core.errors import CorralError, InsufficientCredit, PermissionDenied, RateLimited, Unauthenticated
from corral.core.generation import Stopping
from corral.service.accounts.api_keys import KeyTerms
from tests.unit.service.harness import HELLO, HELLO_TOKENS, PRICE, ServiceHarness, limited, open_harness

pytestmark = pytest.mark.anyio

WORST_NUSD = HELLO_TOKENS * PRICE.input_nusd + 10 * PRICE.output_nusd
"""Highest cost of a run with ten tokens."""


async def rejected(harness: ServiceHarness, error: type[CorralError], **terms: Any) -> CorralError:
    """Check that a request for ten tokens is rejected and changes nothing; return the error."""
    emitted, before = harness.engine.stats().emitted_tokens, await harness.account()
    with pytest.raises(error) as caught:
        await harness.answer(limited(10), **terms)
    assert harness.engine.stats().emitted_tokens == emitted
    assert await harness.account() == before
    return caught.value


async def test_estimate_equals_the_amount_held(database: Path) -> None:
    async with open_harness(database, step_s=0.005) as harness:
        ask = harness.ask(limited(10, choices=3))
        estimate = await harness.service.estimate(ask)
        assert await harness.service.page(harness.caller) == []
        assert (estimate.prompt_tokens, estimate.max_completion_tokens) == (HELLO_TOKENS, 30)
        assert estimate.prompt_nusd == HELLO_TOKENS * PRICE.input_nusd
        assert estimate.worst_case_nusd == HELLO_TOKENS * PRICE.input_nusd + 30 * PRICE.output_nusd
        async with harness.service.open(ask) as run:
            assert (await harness.account()).held_nusd == estimate.worst_case_nusd
            assert (await harness.service.get(harness.caller, run.id)).hold_nusd == estimate.worst_case_nusd
            assert run.price == estimate.price


async def test_run_requires_credit_for_its_worst_case_to_the_nano_dollar(database: Path) -> None:
    async with open_harness(database, credit_nusd=WORST_NUSD - 1) as harness:
        await rejected(harness, InsufficientCredit)
        await harness.add_credit(1)
        await harness.answer(limited(10))
        assert (await harness.account()).available_nusd == 0


async def test_unused_part_of_a_hold_is_released(database: Path) -> None:
    async with open_harness(database, "four") as harness:
        await harness.answer(limited(1000))
        cost = HELLO_TOKENS * PRICE.input_nusd + (len("four") + 1) * PRICE.output_nusd
        assert (await harness.account()).available_nusd == 10**9 - cost


async def test_cost_limit_of_a_request_is_exact_to_the_nano_dollar(database: Path) -> None:
    async with open_harness(database) as harness:
        await rejected(harness, InsufficientCredit, max_cost_nusd=WORST_NUSD - 1)
        await harness.answer(limited(10), max_cost_nusd=WORST_NUSD)


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
async def test_second_run_exceeds_a_limit(
    database: Path, limits: Limits, terms: dict[str, Any], error: type[CorralError]
) -> None:
    async with open_harness(database, limits=limits, terms=terms) as harness:
        await harness.answer(limited(10))
        await rejected(harness, error)


async def test_concurrent_runs_are_limited_per_account(database: Path) -> None:
    async with (
        open_harness(database, limits=Limits(concurrent_runs=2), step_s=0.01) as harness,
        harness.service.open(harness.ask(limited(500))),
        harness.service.open(harness.ask(limited(500))) as second,
    ):
        with pytest.raises(RateLimited):
            await harness.answer(limited(10))
        await harness.service.cancel(harness.caller, second.id)
        await harness.answer(limited(10))


@pytest.mark.parametrize(
    ("terms", "error"),
    [
        ({"scopes": frozenset({Scope.READ})}, PermissionDenied),
        ({"models": ("meta/llama-2-7b-chat",)}, PermissionDenied),
    ],
)
async def test_key_runs_only_with_its_scopes_and_models(
    database: Path, terms: dict[str, Any], error: type[CorralError]
) -> None:
    async with open_harness(database, terms=terms) as harness:
        await rejected(harness, error)
        with pytest.raises(error):
            await harness.service.estimate(harness.ask(limited(10)))
        assert await harness.service.page(harness.caller) == []


async def test_read_key_cannot_cancel_and_admin_key_cannot_read_predictions(database: Path) -> None:
    async with open_harness(database, step_s=0.005) as harness, harness.service.open(harness.ask(limited(50))) as run:
        ann, account = harness.caller, await harness.account()
        reader = await harness.use_account(account, scopes=frozenset({Scope.READ}))
        assert (await harness.service.get(reader, run.id)).id == run.id
        assert (await harness.service.attach(reader, run.id)).id == run.id
        with pytest.raises(PermissionDenied):
            await harness.service.cancel(reader, run.id)
        clerk = await harness.use_account(account, scopes=frozenset({Scope.ADMIN}))
        for look in (harness.service.get, harness.service.attach, harness.service.cancel):
            with pytest.raises(PermissionDenied):
                await look(clerk, run.id)
        with pytest.raises(PermissionDenied):
            await harness.service.page(clerk)
        runner = await harness.use_account(account, scopes=frozenset({Scope.INFERENCE}))
        assert [one.id for one in await harness.service.page(runner)] == [run.id]
        harness.caller = ann


async def test_key_revoked_after_authentication_is_rejected_at_the_claim(database: Path) -> None:
    async with open_harness(database) as harness:
        ann, account = harness.caller, await harness.account()
        key, secret = await harness.keys.create(account.id, KeyTerms(name="lost"))
        caller = await harness.keys.authenticate(secret)
        assert caller is not None
        harness.caller = caller
        await harness.answer(limited(10))
        await harness.keys.revoke(key.id)
        await rejected(harness, Unauthenticated)
        harness.caller = ann


async def test_credit_for_ten_runs_admits_ten_of_forty_concurrent_requests(database: Path) -> None:
    async with open_harness(database, credit_nusd=10 * WORST_NUSD, step_s=0.002) as harness:
        results = await asyncio.gather(*(harness.answer(limited(10)) for _ in range(40)), return_exceptions=True)
        done = [result for result in results if not isinstance(result, BaseException)]
        assert len(done) == 10
        assert {type(result) for result in results if isinstance(result, BaseException)} == {InsufficientCredit}
        assert (await harness.account()).available_nusd == 0
        assert harness.engine.stats().emitted_tokens == 100


async def test_request_without_max_tokens_holds_the_whole_context(database: Path) -> None:
    async with open_harness(database, "short", context_tokens=128) as harness:
        estimate = await harness.service.estimate(harness.ask(replace(HELLO, stopping=Stopping())))
        assert estimate.max_completion_tokens == 128 - HELLO_TOKENS
