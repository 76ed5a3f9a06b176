"""Accounts, credit and keys as rows."""

import asyncio

import pytest

from corral.core.accounts import Limits, Scope
from corral.core.errors import IdempotencyConflict, InsufficientCredit, InvalidRequest
from corral.store.books import accounts, keys
from corral.store.store import Store
from tests.contract.store.books import DOLLAR, HOLD, NOON, Books, new_key

pytestmark = pytest.mark.anyio


async def test_account_is_stored_and_read_back(store: Store) -> None:
    limits = Limits(spend_per_day_nusd=5, requests_per_minute=7, concurrent_runs=2)
    made = await store.write(lambda c: accounts.create_account(c, name="Zoë", limits=limits, now_ms=NOON))
    assert made.id.startswith("acct_")
    assert len(made.id) == len("acct_") + 16
    assert (made.available_nusd, made.held_nusd, made.unlimited, made.limits) == (0, 0, False, limits)
    assert await store.read(lambda c: accounts.get_account(c, made.id)) == made
    assert await store.read(accounts.list_accounts) == [made]


async def test_an_unknown_account_is_none(store: Store) -> None:
    assert await store.read(lambda c: accounts.get_account(c, "acct_nobody")) is None


async def test_concurrent_starts_create_one_local_account(store: Store) -> None:
    made = await asyncio.gather(
        *(store.write(lambda c: accounts.ensure_local_account(c, now_ms=NOON)) for _ in range(8))
    )
    assert len(set(made)) == 1
    assert made[0].unlimited
    assert len(await store.read(accounts.list_accounts)) == 1


async def test_credit_cannot_be_withdrawn_beyond_the_available_balance(books: Books) -> None:
    await books.claim()

    async def credit(nusd: int) -> int:
        account = await books.store.write(
            lambda c: accounts.credit(c, books.account.id, nusd, note="invoice 7", now_ms=NOON)
        )
        assert (account.available_nusd, account.held_nusd) == await books.balance()
        return account.available_nusd

    assert await credit(500) == DOLLAR - HOLD + 500
    assert await credit(HOLD - DOLLAR - 500) == 0
    with pytest.raises(InsufficientCredit):
        await credit(-1)
    assert await books.differences() == []


@pytest.mark.parametrize("nusd", [0, 2**62 + 1, 2**62, -(2**63)])
async def test_amounts_outside_the_ledger_range_are_rejected(books: Books, nusd: int) -> None:
    with pytest.raises(InvalidRequest, match="cannot be credited"):
        await books.store.write(lambda c: accounts.credit(c, books.account.id, nusd, now_ms=NOON))


async def test_credit_with_an_idempotency_key_is_given_once(books: Books) -> None:
    async def credit(nusd: int, key: str, *, note: str = "invoice 7", account_id: str = books.account.id) -> int:
        account = await books.store.write(
            lambda c: accounts.credit(c, account_id, nusd, note=note, idempotency_key=key, now_ms=NOON)
        )
        return account.available_nusd

    assert set(await asyncio.gather(*(credit(5, "first") for _ in range(6)))) == {DOLLAR + 5}
    assert await credit(5, "second") == DOLLAR + 10
    assert await credit(5, "first") == DOLLAR + 10
    for changed in (credit(6, "first"), credit(-5, "first"), credit(5, "first", note="invoice 8")):
        with pytest.raises(IdempotencyConflict, match="other values"):
            await changed
    other = await books.store.write(lambda c: accounts.create_account(c, name="Bob", now_ms=NOON))
    assert await credit(5, "first", account_id=other.id) == 5
    assert await books.balance() == (DOLLAR + 10, 0)
    assert await books.differences() == []


async def test_rejected_credit_does_not_use_up_its_idempotency_key(books: Books) -> None:
    with pytest.raises(InsufficientCredit):
        await books.store.write(
            lambda c: accounts.credit(c, books.account.id, -2 * DOLLAR, idempotency_key="once", now_ms=NOON)
        )
    await books.store.write(lambda c: accounts.credit(c, books.account.id, 5, idempotency_key="once", now_ms=NOON))
    assert await books.balance() == (DOLLAR + 5, 0)


async def test_credit_for_an_unknown_account_is_rejected(store: Store) -> None:
    with pytest.raises(InvalidRequest, match="no account 'acct_x'"):
        await store.write(lambda c: accounts.credit(c, "acct_x", 1, now_ms=NOON))
    with pytest.raises(InvalidRequest, match="no account 'acct_x'"):
        await store.write(lambda c: accounts.set_limits(c, "acct_x", Limits()))


async def test_limits_are_replaced_as_a_whole(books: Books) -> None:
    await books.limit(concurrent_runs=3)
    await books.limit(tokens_per_minute=9)
    account = await books.store.read(lambda c: accounts.get_account(c, books.account.id))
    assert account is not None
    assert account.limits == Limits(tokens_per_minute=9)


@pytest.mark.parametrize("limit", [{"requests_per_minute": 0}, {"spend_per_day_nusd": -1}, {"concurrent_runs": 2**63}])
async def test_limits_out_of_range_are_refused_by_name(books: Books, limit: dict[str, int]) -> None:
    with pytest.raises(InvalidRequest, match=next(iter(limit))):
        await books.limit(**limit)


@pytest.mark.parametrize("name", ["", "a\nb", "\x00", "\ud800", "x" * 201])
async def test_unprintable_names_are_rejected(store: Store, name: str) -> None:
    with pytest.raises(InvalidRequest, match="name"):
        await store.write(lambda c: accounts.create_account(c, name=name, now_ms=NOON))


async def test_a_key_is_found_by_its_digest_with_its_account(books: Books) -> None:
    new = new_key(
        books.account,
        b"\x00\xff" * 16,
        scopes=frozenset({Scope.ADMIN}),
        models=("Meta/Llama-2-7B-chat",),
        expires_at_ms=NOON + 1,
        spend_limit_nusd=3,
        privacy=True,
    )
    made = await books.store.write(lambda c: keys.add_key(c, new, now_ms=NOON))
    found = await books.store.read(lambda c: keys.find_key(c, new.digest))
    assert found is not None
    assert found[0] == made
    assert found[1].id == books.account.id
    assert made.models == ("meta/llama-2-7b-chat",)
    assert made.scopes == {Scope.ADMIN}
    assert await books.store.read(lambda c: keys.find_key(c, b"unknown")) is None


async def test_keys_are_listed_by_account_or_all(books: Books) -> None:
    other = await Books.begin(books.store)
    assert await books.store.read(lambda c: keys.list_keys(c, books.account.id)) == [books.key]
    assert {key.id for key in await books.store.read(keys.list_keys)} == {books.key.id, other.key.id}


async def test_a_key_is_revoked_once(books: Books) -> None:
    for at_ms in (NOON + 1, NOON + 2):
        revoked = await books.store.write(lambda c, at_ms=at_ms: keys.revoke_key(c, books.key.id, now_ms=at_ms))
        assert revoked is not None
        assert revoked.revoked_at_ms == NOON + 1
    assert await books.store.write(lambda c: keys.revoke_key(c, "key_unknown", now_ms=NOON)) is None


async def test_two_keys_never_share_a_digest(books: Books) -> None:
    with pytest.raises(RuntimeError, match="refused"):
        await books.store.write(
            lambda c: keys.add_key(c, new_key(books.account, books.account.id.encode()), now_ms=NOON)
        )


async def test_concurrent_ensure_key_creates_one_key(books: Books) -> None:
    new = new_key(books.account, b"local")
    made = await asyncio.gather(*(books.store.write(lambda c: keys.ensure_key(c, new, now_ms=NOON)) for _ in range(8)))
    assert len({key.id for key in made}) == 1


async def test_keys_of_unknown_accounts_or_with_negative_limits_are_rejected(books: Books) -> None:
    for bad in (new_key(books.account, account_id="acct_x"), new_key(books.account, spend_limit_nusd=-1)):
        with pytest.raises(InvalidRequest):
            await books.store.write(lambda c, bad=bad: keys.add_key(c, bad, now_ms=NOON))
