"""API keys: which secrets authenticate and until when, and which terms are refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from corral.core.accounts import Scope
from corral.core.errors import InvalidRequest
from corral.service.accounts.api_keys import ApiKeys, KeyTerms
from corral.store.books.accounts import LOCAL_ACCOUNT_ID
from corral.store.store import Store
from tests.contract.store.books import DAY, NOON
from tests.unit.service.account_fixtures import PEPPER, ClockedServices

pytestmark = pytest.mark.anyio

TERMS = KeyTerms(name="laptop")


async def test_only_the_exact_secret_authenticates_its_key(services: ClockedServices) -> None:
    ann = await services.accounts.create("ann")
    key, secret = await services.keys.create(ann.id, replace(TERMS, models=("Meta/X",), privacy=True))
    caller = await services.keys.authenticate(secret)
    assert caller is not None
    assert (caller.account_id, caller.key_id, caller.privacy) == (ann.id, key.id, True)
    assert (caller.scopes, caller.models) == ({Scope.INFERENCE, Scope.READ}, ("meta/x",))
    for wrong in (secret[:-1], secret + "x", "", key.id, "\ud800"):
        assert await services.keys.authenticate(wrong) is None


async def test_a_key_is_valid_only_with_the_pepper_it_was_created_with(services: ClockedServices) -> None:
    ann = await services.accounts.create("ann")
    _, secret = await services.keys.create(ann.id, TERMS)
    other = ApiKeys(services.store, pepper=b"q" * 32, clock=lambda: NOON / 1000)
    assert await other.authenticate(secret) is None
    with pytest.raises(ValueError, match="32 bytes"):
        ApiKeys(services.store, pepper=b"short", clock=lambda: 0)


async def test_a_key_expires_exactly_at_its_expiry(services: ClockedServices) -> None:
    ann = await services.accounts.create("ann")
    _, secret = await services.keys.create(ann.id, replace(TERMS, expires_at_ms=NOON + DAY))
    services.now_ms = NOON + DAY - 1
    assert await services.keys.authenticate(secret) is not None
    services.now_ms += 1
    assert await services.keys.authenticate(secret) is None


async def test_a_revoked_key_is_refused_by_every_process_at_the_next_request(
    services: ClockedServices, tmp_path: Path
) -> None:
    ann = await services.accounts.create("ann")
    key, secret = await services.keys.create(ann.id, TERMS)
    elsewhere = Store.open(f"sqlite:///{tmp_path}/corral.db")
    try:
        await ApiKeys(elsewhere, pepper=PEPPER, clock=lambda: NOON / 1000).revoke(key.id)
    finally:
        await elsewhere.close()
    assert await services.keys.authenticate(secret) is None
    with pytest.raises(InvalidRequest, match="no key 'key_nobody'"):
        await services.keys.revoke("key_nobody")


async def test_the_local_account_and_its_key_are_created_once(services: ClockedServices) -> None:
    for _ in range(2):
        await services.keys.ensure_local_key("ck_local")
    (key,) = await services.keys.list()
    assert (key.account_id, key.scopes) == (LOCAL_ACCOUNT_ID, set(Scope))
    assert (await services.accounts.find("local")).unlimited


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
async def test_a_key_with_invalid_terms_is_not_created(services: ClockedServices, terms: KeyTerms) -> None:
    ann = await services.accounts.create("ann")
    with pytest.raises(InvalidRequest):
        await services.keys.create(ann.id, terms)
    assert await services.keys.list() == []
