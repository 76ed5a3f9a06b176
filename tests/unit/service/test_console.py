"""The console: which scope each method requires, and what it does."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from corral.core.accounts import Account, Limits, Scope
from corral.core.caller import Caller
from corral.core.errors import InsufficientCredit, InvalidRequest, PermissionDenied
from corral.service.accounts.accounts import Accounts
from corral.service.accounts.api_keys import ApiKeys, KeyTerms
from corral.service.accounts.services import AccountServices
from corral.service.console import Console
from corral.service.measures import Measures
from corral.service.webhooks.webhooks import Webhooks
from corral.store.store import Store
from tests.engines import scripted_engine
from tests.unit.service.harness import deployments_of

pytestmark = pytest.mark.anyio

DOLLAR = 10**9


@dataclass
class ConsoleHarness:
    """Two accounts and a console; the engine is never started."""

    console: Console
    accounts: Accounts
    keys: ApiKeys
    ann: Account
    bob: Account

    async def caller(self, account: Account, *scopes: Scope) -> Caller:
        """Create a key of *account* with *scopes* and return its caller."""
        terms = KeyTerms(name="signed in", scopes=frozenset(scopes))
        found = await self.keys.authenticate((await self.keys.create(account.id, terms))[1])
        assert found is not None
        return found


@pytest.fixture
async def harness(database: Path) -> AsyncIterator[ConsoleHarness]:
    store, engine = Store.open(f"sqlite:///{database}"), scripted_engine()
    services = AccountServices.over(store, pepper=b"p" * 32, clock=time.time)
    measures = Measures(store=store, deployments=deployments_of(engine), clock=time.time)
    console = Console(services, measures, Webhooks(store, pepper=b"p" * 32, clock=time.time))
    ann = await services.accounts.create("Ann", credit_nusd=DOLLAR)
    yield ConsoleHarness(console, services.accounts, services.keys, ann, await services.accounts.create("Bob"))
    await store.close()


ConsoleCall = Callable[[ConsoleHarness, Caller], Awaitable[object]]


async def load(harness: ConsoleHarness, caller: Caller) -> object:
    return harness.console.load(caller)


READING: dict[str, ConsoleCall] = {
    "account": lambda o, c: o.console.account(c),
    "spend": lambda o, c: o.console.spend(c),
    "usage": lambda o, c: o.console.usage(c, days=30),
    "latency": lambda o, c: o.console.latency(c),
    "load": load,
    "keys": lambda o, c: o.console.keys(c),
    "key": lambda o, c: o.console.key(c, c.key_id),
    "deliveries": lambda o, c: o.console.deliveries(c, "no-such-prediction"),
}
MANAGING: dict[str, ConsoleCall] = {
    "create_key": lambda o, c: o.console.create_key(c, KeyTerms(name="new")),
    "revoke_key": lambda o, c: o.console.revoke_key(c, c.key_id),
    "accounts": lambda o, c: o.console.accounts(c),
    "any_account": lambda o, c: o.console.any_account(c, o.bob.id),
    "create_account": lambda o, c: o.console.create_account(c, "Eve", unlimited=True, limits=Limits(), credit_nusd=0),
    "credit": lambda o, c: o.console.credit(c, o.ann.id, DOLLAR, note=None, idempotency_key="once"),
    "change_limits": lambda o, c: o.console.change_limits(c, o.ann.id, {"concurrent_runs": 3}),
    "rotate_webhook_secret": lambda o, c: o.console.rotate_webhook_secret(c),
    "another account's keys": lambda o, c: o.console.keys(c, o.bob.id),
}


@pytest.mark.parametrize("name", READING)
async def test_reading_requires_the_scope_read(harness: ConsoleHarness, name: str) -> None:
    caller = await harness.caller(harness.ann, Scope.READ)
    await READING[name](harness, caller)
    with pytest.raises(PermissionDenied, match="'read'"):
        await READING[name](harness, replace(caller, scopes=frozenset()))


async def test_key_with_only_the_scope_inference_cannot_read_usage_or_credit(harness: ConsoleHarness) -> None:
    caller = await harness.caller(harness.ann, Scope.INFERENCE)
    for name in READING.keys() - {"deliveries"}:
        with pytest.raises(PermissionDenied, match="'read'"):
            await READING[name](harness, caller)


async def test_webhook_secret_and_replay_require_the_scope_inference(harness: ConsoleHarness) -> None:
    runs, reads, manages = [
        await harness.caller(harness.ann, scope) for scope in (Scope.INFERENCE, Scope.READ, Scope.ADMIN)
    ]
    first = await harness.console.webhook_secret(runs)
    assert first.startswith("whsec_")
    second = await harness.console.rotate_webhook_secret(manages)
    assert second != first
    assert await harness.console.webhook_secret(runs) == second
    with pytest.raises(PermissionDenied):
        await harness.console.webhook_secret(reads)
    with pytest.raises(PermissionDenied):
        await harness.console.replay(reads, "msg_any")
    with pytest.raises(InvalidRequest, match="There is no delivery"):
        await harness.console.replay(runs, "msg_any")


@pytest.mark.parametrize("name", MANAGING)
async def test_managing_requires_the_scope_admin(harness: ConsoleHarness, name: str) -> None:
    await MANAGING[name](harness, await harness.caller(harness.ann, Scope.ADMIN))
    caller = await harness.caller(harness.ann, Scope.READ, Scope.INFERENCE)
    before = (await harness.accounts.list(), await harness.keys.list())
    with pytest.raises(PermissionDenied, match="'admin'"):
        await MANAGING[name](harness, caller)
    assert (await harness.accounts.list(), await harness.keys.list()) == before


async def test_account_lists_only_its_own_keys(harness: ConsoleHarness) -> None:
    ann = await harness.caller(harness.ann, Scope.READ)
    bob = await harness.caller(harness.bob, Scope.READ)
    admin = await harness.caller(harness.bob, Scope.ADMIN)
    assert [key.id for key in await harness.console.keys(ann)] == [ann.key_id]
    assert {key.id for key in await harness.console.keys(bob)} == {bob.key_id, admin.key_id}
    assert [key.id for key in await harness.console.keys(admin, harness.ann.id)] == [ann.key_id]
    assert (await harness.console.key(admin, ann.key_id)).account_id == harness.ann.id
    with pytest.raises(InvalidRequest, match="There is no key"):
        await harness.console.key(bob, ann.key_id)


async def test_revoked_and_expired_keys_are_listed_last(harness: ConsoleHarness) -> None:
    old = await harness.caller(harness.ann, Scope.READ)
    gone = await harness.caller(harness.ann, Scope.READ)
    new = await harness.caller(harness.ann, Scope.READ, Scope.ADMIN)
    await harness.console.revoke_key(new, gone.key_id)
    listed = await harness.console.keys(new)
    assert [key.id for key in listed] == [new.key_id, old.key_id, gone.key_id]
    assert [harness.console.is_over(key) for key in listed] == [False, False, True]
    expired = replace(listed[0], expires_at_ms=1)
    assert harness.console.is_over(expired)


async def test_created_key_authenticates_until_it_is_revoked(harness: ConsoleHarness) -> None:
    admin = await harness.caller(harness.ann, Scope.ADMIN)
    key, secret = await harness.console.create_key(admin, KeyTerms(name="bob's"), harness.bob.id)
    caller = await harness.keys.authenticate(secret)
    assert caller is not None
    assert (caller.account_id, caller.key_id) == (harness.bob.id, key.id)
    await harness.console.revoke_key(admin, key.id)
    assert await harness.keys.authenticate(secret) is None


async def test_admin_changes_credit_and_limits_of_any_account(harness: ConsoleHarness) -> None:
    admin = await harness.caller(harness.ann, Scope.ADMIN)
    await harness.console.credit(admin, harness.bob.id, 2 * DOLLAR, note="Welcome.", idempotency_key="gift")
    await harness.console.change_limits(admin, harness.bob.id, {"requests_per_minute": 60})
    account, spend = await harness.console.any_account(admin, harness.bob.id)
    assert (account.available_nusd, account.limits) == (2 * DOLLAR, Limits(requests_per_minute=60))
    assert (spend.today_nusd, spend.held_nusd) == (0, 0)
    with pytest.raises(InsufficientCredit):
        await harness.console.credit(admin, harness.bob.id, -3 * DOLLAR, note=None, idempotency_key="withdrawal")
    with pytest.raises(InvalidRequest, match="There is no account"):
        await harness.console.any_account(admin, "acct_nobody")
