"""Accounts and keys over a real store: who is let in, until when, and what is refused before it is written."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from corral.core.accounts import Limits, Scope
from corral.core.errors import InvalidRequest, UnknownPrediction
from corral.service.accounts.accounts import Accounts, KeyTerms
from corral.store.books.accounts import LOCAL_ACCOUNT_ID
from corral.store.store import Store
from tests.contract.store.books import DAY, NOON, Books

pytestmark = pytest.mark.anyio

TERMS = KeyTerms(name="laptop")
PEPPER = b"p" * 32


class Desk:
    """Accounts under a clock that the test moves."""

    def __init__(self, store: Store) -> None:
        self.now_ms = NOON
        self.store = store
        self.accounts = Accounts(store, pepper=PEPPER, clock=lambda: self.now_ms / 1000)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    store = Store.open(f"sqlite:///{tmp_path}/corral.db")
    yield Desk(store)
    await store.close()


async def test_a_secret_leads_to_its_caller_and_any_other_to_none(desk: Desk) -> None:
    ann = await desk.accounts.create_account("ann")
    key, secret = await desk.accounts.create_key(ann.id, replace(TERMS, models=("Meta/X",), privacy=True))
    caller = await desk.accounts.authenticate(secret)
    assert caller is not None
    assert (caller.account_id, caller.key_id, caller.privacy) == (ann.id, key.id, True)
    assert (caller.scopes, caller.models) == ({Scope.INFERENCE, Scope.READ}, ("meta/x",))
    for wrong in (secret[:-1], secret + "x", "", key.id, "\ud800"):
        assert await desk.accounts.authenticate(wrong) is None


async def test_a_key_is_known_under_its_own_pepper_only(desk: Desk) -> None:
    ann = await desk.accounts.create_account("ann")
    _, secret = await desk.accounts.create_key(ann.id, TERMS)
    other = Accounts(desk.store, pepper=b"q" * 32, clock=lambda: NOON / 1000)
    assert await other.authenticate(secret) is None
    with pytest.raises(ValueError, match="32 bytes"):
        Accounts(desk.store, pepper=b"short", clock=lambda: 0)


async def test_a_key_expires_at_its_time_and_not_before(desk: Desk) -> None:
    ann = await desk.accounts.create_account("ann")
    _, secret = await desk.accounts.create_key(ann.id, replace(TERMS, expires_at_ms=NOON + DAY))
    desk.now_ms = NOON + DAY - 1
    assert await desk.accounts.authenticate(secret) is not None
    desk.now_ms += 1
    assert await desk.accounts.authenticate(secret) is None


async def test_a_revoked_key_is_refused_by_every_process_at_the_next_request(desk: Desk, tmp_path: Path) -> None:
    ann = await desk.accounts.create_account("ann")
    key, secret = await desk.accounts.create_key(ann.id, TERMS)
    elsewhere = Store.open(f"sqlite:///{tmp_path}/corral.db")
    try:
        await Accounts(elsewhere, pepper=PEPPER, clock=lambda: NOON / 1000).revoke_key(key.id)
    finally:
        await elsewhere.close()
    assert await desk.accounts.authenticate(secret) is None
    with pytest.raises(InvalidRequest, match="no key 'key_nobody'"):
        await desk.accounts.revoke_key("key_nobody")


async def test_the_key_of_this_machine_is_admitted_once(desk: Desk) -> None:
    for _ in range(2):
        await desk.accounts.admit_local("ck_local")
    (key,) = await desk.accounts.keys()
    assert (key.account_id, key.scopes) == (LOCAL_ACCOUNT_ID, set(Scope))
    assert (await desk.accounts.account("local")).unlimited


@pytest.mark.parametrize(
    "terms",
    [
        replace(TERMS, name=""),
        replace(TERMS, name="two\nlines"),
        replace(TERMS, scopes=frozenset()),
        replace(TERMS, expires_at_ms=NOON),
        replace(TERMS, spend_limit_nusd=-1),
    ],
)
async def test_a_key_that_makes_no_sense_is_not_made(desk: Desk, terms: KeyTerms) -> None:
    ann = await desk.accounts.create_account("ann")
    with pytest.raises(InvalidRequest):
        await desk.accounts.create_key(ann.id, terms)
    assert await desk.accounts.keys() == []


@pytest.mark.parametrize(
    "options",
    [{"credit_nusd": 2**63}, {"limits": Limits(concurrent_runs=0)}, {"limits": Limits(spend_per_day_nusd=-1)}],
)
async def test_an_account_is_made_with_everything_or_not_at_all(desk: Desk, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        await desk.accounts.create_account("ann", **options)
    assert await desk.accounts.accounts() == []


async def test_a_name_leads_to_one_account(desk: Desk) -> None:
    ann = await desk.accounts.create_account("ann", credit_nusd=5)
    assert ann.available_nusd == 5
    for taken in ("ann", ann.id):
        with pytest.raises(InvalidRequest, match="already"):
            await desk.accounts.create_account(taken)
    assert await desk.accounts.account("ann") == await desk.accounts.account(ann.id) == ann


async def test_changed_limits_leave_the_others_alone(desk: Desk) -> None:
    ann = await desk.accounts.create_account("ann", limits=Limits(requests_per_minute=5, concurrent_runs=2))
    after = await desk.accounts.change_limits(ann.id, {"concurrent_runs": None, "spend_per_day_nusd": 0})
    assert after.limits == Limits(requests_per_minute=5, spend_per_day_nusd=0)
    assert await desk.accounts.account("ann") == after
    with pytest.raises(InvalidRequest, match="no account"):
        await desk.accounts.change_limits("acct_nobody", {})


async def test_spend_is_of_today_and_of_this_month(desk: Desk) -> None:
    books = await Books.begin(desk.store)
    await books.settle(await books.claim(), tokens=10)
    cost_nusd = 100 * 650 + 10 * 2750
    spent: list[tuple[int, int]] = []
    for days in (0, 1, 31):
        desk.now_ms = NOON + days * DAY
        spend = await desk.accounts.spend(books.account.id)
        spent.append((spend.today_nusd, spend.this_month_nusd))
    assert spent == [(cost_nusd, cost_nusd), (0, cost_nusd), (0, 0)]
    with pytest.raises(InvalidRequest, match="no account"):
        await desk.accounts.spend("acct_nobody")


async def test_a_receipt_is_found_whosever_it_is(desk: Desk) -> None:
    await desk.accounts.create_account("bob")
    books = await Books.begin(desk.store)
    settled = await books.settle(await books.claim())
    assert await desk.accounts.receipt(settled.id) == settled.receipt
    running = await books.claim()
    with pytest.raises(InvalidRequest, match="starting"):
        await desk.accounts.receipt(running.id)
    for nobody in ("0" * 26, "\x00", ""):
        with pytest.raises(UnknownPrediction):
            await desk.accounts.receipt(nobody)
