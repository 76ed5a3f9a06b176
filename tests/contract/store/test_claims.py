"""Claims: limits, holds, and rejected claims that write nothing."""

import asyncio
from dataclasses import replace

import pytest
from sqlalchemy import Connection, func, select, text, update

from corral.core.caller import ScopedToken
from corral.core.errors import (
    IdempotencyConflict,
    InsufficientCredit,
    InvalidRequest,
    PermissionDenied,
    RateLimited,
    Unauthenticated,
)
from corral.core.prediction import Status
from corral.store.books import accounts, keys
from corral.store.runs.claims import Attached, claim, purge_idempotency_keys
from corral.store.schema import api_keys, idempotency_keys, ledger_entries, predictions
from tests.contract.store.books import DAY, DOLLAR, FREE, HOLD, HOUR, INPUT, MINUTE, NOON, Books, new_key, same, wanted

pytestmark = pytest.mark.anyio


async def rows(books: Books) -> list[int]:
    """How many predictions, ledger entries and idempotency keys there are."""

    def count(connection: Connection) -> list[int]:
        tables = (predictions, ledger_entries, idempotency_keys)
        return [connection.execute(select(func.count()).select_from(table)).scalar_one() for table in tables]

    return await books.store.read(count)


async def test_claim_holds_the_worst_case_cost_and_stores_the_request(books: Books) -> None:
    prediction = await books.claim()
    assert await books.balance() == (DOLLAR - HOLD, HOLD)
    assert (await books.stored_key()).spent_nusd == HOLD
    assert await books.get(prediction) == prediction
    assert prediction.status is Status.STARTING
    assert prediction.hold_nusd == HOLD
    assert prediction.input == INPUT
    assert prediction.seed == 2**64 - 1
    assert await books.differences() == []


@pytest.mark.parametrize("seed", [None, 0, 1, 2**63 - 1, 2**63, 2**64 - 1])
async def test_every_64_bit_seed_is_stored(books: Books, seed: int | None) -> None:
    prediction = await books.claim(seed=seed)
    assert (await books.get(prediction)).seed == seed == prediction.seed


async def test_concurrent_claims_never_exceed_the_credit(books: Books) -> None:
    await books.store.write(lambda c: accounts.credit(c, books.account.id, 50 * HOLD - DOLLAR, now_ms=NOON))
    outcomes = await asyncio.gather(*(books.try_claim() for _ in range(200)), return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert len(refused) == 150
    assert {type(error) for error in refused} == {InsufficientCredit}
    assert await books.balance() == (0, 50 * HOLD)
    assert await books.differences() == []


async def test_claim_beyond_the_credit_is_rejected_with_both_amounts(books: Books) -> None:
    await books.claim()
    before = await rows(books)
    with pytest.raises(InsufficientCredit, match=r"may cost up to \$1\.100065.* has \$0\.999385 of credit"):
        await books.claim(max_completion_tokens=400_000, idempotency=same())
    assert await rows(books) == before
    assert await books.balance() == (DOLLAR - HOLD, HOLD)


async def test_unlimited_account_needs_no_credit_and_usage_is_recorded(books: Books) -> None:
    rich = await Books.begin(books.store, credit_nusd=0, unlimited=True)
    prediction = await rich.claim()
    assert await rich.balance() == (-HOLD, HOLD)
    settled = await rich.settle(prediction)
    assert settled.cost_nusd == 92_500
    assert await rich.balance() == (-92_500, 0)
    assert await books.differences() == []


async def test_a_free_run_needs_no_credit_and_moves_none(books: Books) -> None:
    poor = await Books.begin(books.store, credit_nusd=0)
    prediction = await poor.claim(price=FREE)
    await poor.settle(prediction, price=FREE)
    assert await poor.balance() == (0, 0)
    assert await books.differences() == []


async def test_max_cost_of_a_request_rejects_a_higher_worst_case_cost(books: Books) -> None:
    await books.claim(max_cost_nusd=HOLD)
    with pytest.raises(InsufficientCredit, match=r"\$0\.000615, but the request's max_cost is \$0\.000614999"):
        await books.claim(max_cost_nusd=HOLD - 1)


@pytest.mark.parametrize("period", ["day", "month"])
async def test_a_spend_limit_counts_what_is_held_and_what_was_spent(books: Books, period: str) -> None:
    await books.limit(**{f"spend_per_{period}_nusd": 2 * HOLD})
    first, _ = await books.claim(), await books.claim()
    with pytest.raises(InsufficientCredit, match=rf"\$0 is left of the account's limit per {period} of \$0\.00123"):
        await books.claim()
    await books.settle(first, tokens=0)
    await books.claim(max_completion_tokens=10)
    with pytest.raises(InsufficientCredit, match="limit per"):
        await books.claim()


async def test_spend_resets_each_day_and_month(books: Books) -> None:
    await books.limit(spend_per_day_nusd=HOLD, spend_per_month_nusd=2 * HOLD)
    for day in range(2):
        books.now_ms = NOON + day * DAY
        await books.settle(await books.claim(), tokens=200)
        with pytest.raises(InsufficientCredit, match="limit per day"):
            await books.claim()
    books.now_ms = NOON + 2 * DAY
    with pytest.raises(InsufficientCredit, match="limit per month"):
        await books.claim()
    books.now_ms = NOON + 31 * DAY
    await books.claim()
    assert await books.differences() == []


async def test_clock_set_back_does_not_reset_daily_spend(books: Books) -> None:
    await books.limit(spend_per_day_nusd=HOLD)
    await books.settle(await books.claim(), tokens=200)
    books.now_ms -= DAY
    with pytest.raises(InsufficientCredit, match="limit per day"):
        await books.claim()


async def test_key_spend_limit_counts_lifetime_spend_and_current_holds(books: Books) -> None:
    limited = new_key(books.account, b"other", spend_limit_nusd=HOLD + 100)
    books.key = await books.store.write(lambda c: keys.add_key(c, limited, now_ms=NOON))
    first = await books.claim()
    with pytest.raises(InsufficientCredit, match=r"\$0\.0000001 is left of the API key's spend limit of \$0\.0006151"):
        await books.claim()
    await books.settle(first, tokens=1)
    books.now_ms += 400 * DAY
    await books.claim(max_completion_tokens=100)
    with pytest.raises(InsufficientCredit, match="spend limit"):
        await books.claim()


async def test_concurrent_runs_are_limited_until_one_ends(books: Books) -> None:
    await books.limit(concurrent_runs=2)
    first, _ = await books.claim(), await books.claim()
    with pytest.raises(RateLimited, match="2 concurrent runs"):
        await books.claim()
    await books.settle(first)
    await books.claim()


async def test_requests_per_minute_error_has_the_retry_time(books: Books) -> None:
    await books.limit(requests_per_minute=2)
    await books.claim()
    books.now_ms += 20_000
    await books.claim()
    books.now_ms += 500
    with pytest.raises(RateLimited) as refused:
        await books.claim()
    assert refused.value.retry_after_s == 40
    books.now_ms += refused.value.retry_after_s * 1000 - 501
    with pytest.raises(RateLimited):
        await books.claim()
    books.now_ms = NOON + MINUTE
    await books.claim()


async def test_tokens_per_minute_count_the_worst_case_until_the_run_is_settled(books: Books) -> None:
    await books.limit(tokens_per_minute=710)
    first = await books.claim()
    books.now_ms += 10_000
    await books.claim()
    with pytest.raises(RateLimited, match="may need 300 tokens, but 110 are left") as refused:
        await books.claim()
    assert refused.value.retry_after_s == 50
    await books.settle(first, tokens=10)
    await books.claim()


async def test_the_wait_for_tokens_is_until_enough_of_them_are_a_minute_old(books: Books) -> None:
    await books.limit(tokens_per_minute=600)
    await books.claim()
    books.now_ms += 10_000
    await books.claim()
    with pytest.raises(RateLimited) as refused:
        await books.claim(max_completion_tokens=201)
    assert refused.value.retry_after_s == 60
    books.now_ms = NOON + MINUTE
    await books.claim()


async def test_request_larger_than_the_token_limit_is_rejected_without_retry_time(books: Books) -> None:
    await books.limit(tokens_per_minute=299)
    with pytest.raises(InvalidRequest, match="may need 300 tokens, but the account's limit is 299 per minute"):
        await books.claim()


async def test_revoked_key_cannot_claim(books: Books) -> None:
    running = await books.claim()
    await books.store.write(lambda c: keys.revoke_key(c, books.key.id, now_ms=NOON))
    with pytest.raises(Unauthenticated, match="revoked"):
        await books.claim()
    assert (await books.settle(running)).status is Status.SUCCEEDED


async def test_expired_key_cannot_claim(books: Books) -> None:
    short = new_key(books.account, b"short", expires_at_ms=NOON + HOUR)
    books.key = await books.store.write(lambda c: keys.add_key(c, short, now_ms=NOON))
    books.now_ms = NOON + HOUR - 1
    await books.claim()
    books.now_ms = NOON + HOUR
    with pytest.raises(PermissionDenied, match="expired"):
        await books.claim()


async def test_key_of_another_account_cannot_claim(books: Books) -> None:
    other = await Books.begin(books.store)
    with pytest.raises(Unauthenticated):
        await books.store.write(lambda c: claim(c, wanted(books.account, other.key), now_ms=NOON))


async def test_no_text_of_a_private_key_is_stored(books: Books) -> None:
    private = new_key(books.account, b"private", privacy=True)
    books.key = await books.store.write(lambda c: keys.add_key(c, private, now_ms=NOON))
    prediction = await books.claim()
    settled = await books.settle(prediction)
    for stored in (prediction, settled, await books.get(prediction)):
        assert (stored.input, stored.output, stored.data_removed) == (None, None, True)
    assert settled.completion_tokens == 10


async def test_repeated_request_attaches_to_the_running_or_finished_prediction(books: Books) -> None:
    first = await books.claim(idempotency=same())
    assert await books.try_claim(idempotency=same()) == Attached(prediction_id=first.id)
    await books.settle(first)
    assert await books.try_claim(idempotency=same()) == Attached(prediction_id=first.id)
    assert (await rows(books))[0] == 1


async def test_concurrent_identical_requests_start_one_run(books: Books) -> None:
    outcomes = await asyncio.gather(*(books.try_claim(idempotency=same()) for _ in range(40)))
    assert sum(isinstance(outcome, Attached) for outcome in outcomes) == 39
    assert await books.balance() == (DOLLAR - HOLD, HOLD)


async def test_idempotency_key_with_another_body_is_rejected(books: Books) -> None:
    await books.claim(idempotency=same())
    with pytest.raises(IdempotencyConflict):
        await books.claim(idempotency=same(body=b"another"))
    await books.claim(idempotency=same(key="twice", body=b"another"))


async def test_idempotency_keys_are_scoped_to_the_account(books: Books) -> None:
    other = await Books.begin(books.store)
    await books.claim(idempotency=same())
    await other.claim(idempotency=same(body=b"another"))


async def test_rejected_request_does_not_use_its_idempotency_key(books: Books) -> None:
    with pytest.raises(InsufficientCredit):
        await books.claim(idempotency=same(), max_cost_nusd=1)
    await books.claim(idempotency=same())


async def test_old_idempotency_keys_are_purged_except_of_unfinished_runs(books: Books) -> None:
    await books.settle(await books.claim(idempotency=same("old")))
    await books.claim(idempotency=same("running"))
    books.now_ms += HOUR
    await books.claim(idempotency=same("new"))
    assert await books.store.write(lambda c: purge_idempotency_keys(c, before_ms=NOON + 1)) == 1
    assert await books.store.write(lambda c: purge_idempotency_keys(c, before_ms=NOON + 1)) == 0
    assert not isinstance(await books.try_claim(idempotency=same("old", b"another")), Attached)
    assert isinstance(await books.try_claim(idempotency=same("new")), Attached)
    assert isinstance(await books.try_claim(idempotency=same("running")), Attached)


async def test_claims_of_an_unknown_account_are_refused(books: Books) -> None:
    nobody = replace(books.account, id="acct_nobody")
    with pytest.raises(Unauthenticated):
        await books.store.write(lambda c: claim(c, wanted(nobody, books.key), now_ms=NOON))


async def test_the_database_itself_refuses_an_overdraft(books: Books) -> None:
    with pytest.raises(Exception, match="ck_accounts_never_overdrawn"):
        await books.store.write(lambda c: c.execute(text("UPDATE accounts SET available_nusd = -1")))


@pytest.mark.parametrize("lost", ["revoked", "expired", "scope", "model", "token"])
async def test_key_without_access_cannot_attach_by_idempotency_key(books: Books, lost: str) -> None:
    first = await books.claim(idempotency=same())
    token = None
    match lost:
        case "revoked":
            await books.store.write(lambda c: keys.revoke_key(c, books.key.id, now_ms=NOON))
        case "token":
            token = ScopedToken(digest=b"t" * 32, expires_at_ms=NOON)
        case _:
            narrow = {
                "expired": {"expires_at_ms": NOON},
                "scope": {"scopes": ["read"]},
                "model": {"models": ["meta/llama-2-7b"]},
            }[lost]
            await books.store.write(lambda c: c.execute(update(api_keys).values(narrow)))
    with pytest.raises((Unauthenticated, PermissionDenied)):
        await books.try_claim(idempotency=same(), token=token)
    assert (await books.get(first)).status is Status.STARTING


async def test_key_limited_to_an_alias_can_claim_only_by_that_name(books: Books) -> None:
    alias = new_key(books.account, b"alias", models=("llama-70b",))
    books.key = await books.store.write(lambda c: keys.add_key(c, alias, now_ms=NOON))
    await books.claim(asked_model="Llama-70b")
    with pytest.raises(PermissionDenied):
        await books.claim()


async def test_store_rejects_integers_beyond_64_bits(books: Books) -> None:
    with pytest.raises(InvalidRequest, match="must be from 1 to"):
        await books.limit(tokens_per_minute=10**30)
    with pytest.raises(InvalidRequest, match="does not fit 64 bits: at most 9223372036854775807"):
        await books.claim(deadline_at_ms=2**63)
    assert await books.differences() == []
