"""What a signed-in person may see and change beside predictions: usage, credit, speed, keys, webhooks, accounts.

Every use case asks for its scope first, and is about the caller's own account unless the caller may manage others.
Knows no HTTP.
"""

from collections.abc import Mapping
from datetime import date, timedelta

from corral.core.accounts import Account, ApiKey, Limits, Scope
from corral.core.caller import Caller
from corral.core.errors import NotFound
from corral.core.webhooks import Delivery
from corral.service.accounts.accounts import Accounts, KeyTerms, Spend, Usage
from corral.service.measures import Latency, Load, Measures
from corral.service.webhooks.webhooks import Webhooks
from corral.store.books.days import day_of


class Console:
    """One server's, for whoever is signed in."""

    def __init__(self, accounts: Accounts, measures: Measures, webhooks: Webhooks) -> None:
        """Put together; holds nothing of its own."""
        self._accounts = accounts
        self._measures = measures
        self._webhooks = webhooks

    async def account(self, caller: Caller) -> Account:
        """The caller's account, its credit included.

        Raises:
            PermissionDenied: the key may not read.
        """
        caller.require(Scope.READ)
        return await self._accounts.account_of(caller.account_id)

    async def spend(self, caller: Caller) -> Spend:
        """What the account has spent today and this month.

        Raises:
            PermissionDenied: the key may not read.
        """
        caller.require(Scope.READ)
        return await self._accounts.spend(caller.account_id)

    async def usage(self, caller: Caller, *, days: int) -> list[Usage]:
        """Tokens and cost of the last *days* days, today included, by day, model, key and door; oldest first.

        Raises:
            PermissionDenied: the key may not read.
        """
        caller.require(Scope.READ)
        return await self._accounts.usage(
            account_id=caller.account_id, by=("day", "model", "key_id", "door"), since_day=self.days(days)[0]
        )

    def days(self, count: int) -> list[str]:
        """The last *count* days in UTC, today the last of them, as usage names them."""
        today = date.fromisoformat(day_of(self._accounts.now_ms()))
        return [(today - timedelta(days=back)).isoformat() for back in reversed(range(count))]

    async def latency(self, caller: Caller) -> Latency:
        """How long the account's recent predictions took.

        Raises:
            PermissionDenied: the key may not read.
        """
        caller.require(Scope.READ)
        return await self._measures.latency(caller.account_id)

    def load(self, caller: Caller) -> Load:
        """What the engine does now, for every account together.

        Raises:
            PermissionDenied: the key may not read.
        """
        caller.require(Scope.READ)
        return self._measures.load()

    async def keys(self, caller: Caller, account_id: str | None = None) -> list[ApiKey]:
        """The keys of the caller's account, or of another one, newest first, those that still open before others.

        Raises:
            PermissionDenied: the key may not read, or not manage other accounts.
        """
        account_id = self._whose(caller, account_id)
        newest_first = (await self._accounts.keys(account_id))[::-1]
        return sorted(newest_first, key=self.is_over)

    def is_over(self, key: ApiKey) -> bool:
        """Whether the key opens nothing any more."""
        expired = key.expires_at_ms is not None and key.expires_at_ms <= self._accounts.now_ms()
        return expired or key.revoked_at_ms is not None

    async def create_key(self, caller: Caller, terms: KeyTerms, account_id: str | None = None) -> tuple[ApiKey, str]:
        """A new key and its secret, which nobody can show again.

        Raises:
            PermissionDenied: the key may not manage keys.
            InvalidRequest: the terms are not those of a key; ``param`` names which.
        """
        caller.require(Scope.ADMIN)
        return await self._accounts.create_key(account_id or caller.account_id, terms)

    async def key(self, caller: Caller, key_id: str) -> ApiKey:
        """One key: of the caller's account, or any for who may manage others.

        Raises:
            PermissionDenied: the key may not read.
            NotFound: there is none, for this caller.
        """
        if Scope.ADMIN not in caller.scopes:
            caller.require(Scope.READ)
        found = await self._accounts.find_key(key_id)
        if found is None or (Scope.ADMIN not in caller.scopes and found.account_id != caller.account_id):
            raise NotFound(f"There is no key '{key_id}'.")
        return found

    async def revoke_key(self, caller: Caller, key_id: str) -> ApiKey:
        """Revoke a key: no request with it is let in any more.

        Raises:
            PermissionDenied: the key may not manage keys.
            NotFound: there is no such key.
        """
        caller.require(Scope.ADMIN)
        return await self._accounts.revoke_key(key_id)

    async def accounts(self, caller: Caller) -> list[Account]:
        """Every account, oldest first.

        Raises:
            PermissionDenied: the key may not manage accounts.
        """
        caller.require(Scope.ADMIN)
        return await self._accounts.accounts()

    async def any_account(self, caller: Caller, account_id: str) -> tuple[Account, Spend]:
        """An account, whosever it is, and what it has spent.

        Raises:
            PermissionDenied: the key may not manage accounts.
            NotFound: there is no such account.
        """
        caller.require(Scope.ADMIN)
        return await self._accounts.account_of(account_id), await self._accounts.spend(account_id)

    async def create_account(
        self, caller: Caller, name: str, *, unlimited: bool, limits: Limits, credit_nusd: int
    ) -> Account:
        """A new account.

        Raises:
            PermissionDenied: the key may not manage accounts.
            InvalidRequest: the name is taken or cannot be shown, or a limit or the credit is out of range.
        """
        caller.require(Scope.ADMIN)
        return await self._accounts.create_account(name, unlimited=unlimited, limits=limits, credit_nusd=credit_nusd)

    async def credit(self, caller: Caller, account_id: str, amount_nusd: int, *, note: str | None) -> Account:
        """Give an account credit, or take it back with a negative amount.

        Raises:
            PermissionDenied: the key may not manage accounts.
            InvalidRequest: no such account, or an amount that no ledger holds.
            InsufficientCredit: more is taken back than is free.
        """
        caller.require(Scope.ADMIN)
        return await self._accounts.credit(account_id, amount_nusd, note=note)

    async def change_limits(self, caller: Caller, account_id: str, changes: Mapping[str, int | None]) -> Account:
        """Set an account's limits as ``Limits`` names them, None taking one away.

        Raises:
            PermissionDenied: the key may not manage accounts.
            InvalidRequest: no such account, or a limit out of range.
        """
        caller.require(Scope.ADMIN)
        return await self._accounts.change_limits(account_id, changes)

    async def webhook_secret(self, caller: Caller) -> str:
        """What the account's receivers check signatures with: for keys that may ask for webhooks.

        Raises:
            PermissionDenied: the key may not run models.
        """
        caller.require(Scope.INFERENCE)
        return await self._webhooks.secret(caller.account_id)

    async def rotate_webhook_secret(self, caller: Caller) -> str:
        """A new secret; the one so far signs as well for ``OVERLAP_S``.

        Raises:
            PermissionDenied: the key may not manage keys.
        """
        caller.require(Scope.ADMIN)
        return await self._webhooks.rotate(caller.account_id)

    async def deliveries(self, caller: Caller, prediction_id: str) -> list[Delivery]:
        """What the account's receivers were told of a prediction, newest first.

        Raises:
            PermissionDenied: the key may neither read nor run models.
        """
        caller.require(Scope.READ, Scope.INFERENCE)
        return await self._webhooks.deliveries(caller.account_id, prediction_id=prediction_id)

    async def replay(self, caller: Caller, delivery_id: str) -> Delivery:
        """Have a delivery of the account sent once more, under its id.

        Raises:
            PermissionDenied: the key may not run models.
            InvalidRequest: the account has no such delivery.
        """
        caller.require(Scope.INFERENCE)
        return await self._webhooks.replay(delivery_id, account_id=caller.account_id)

    def _whose(self, caller: Caller, account_id: str | None) -> str:
        """The account that is asked about, if the caller may ask."""
        if Scope.ADMIN not in caller.scopes:
            caller.require(Scope.READ)
            if account_id not in (None, caller.account_id):
                caller.require(Scope.ADMIN)
        return account_id or caller.account_id
