"""Account management with permission checks: usage, credit, latency, API keys, webhooks, accounts.

Each method requires a scope, and is limited to the caller's account unless the caller has the admin scope.
"""

from collections.abc import Mapping

from corral.core.accounts import Account, ApiKey, Limits, Scope
from corral.core.caller import Caller
from corral.core.errors import NotFound
from corral.core.webhooks import Delivery
from corral.service.accounts.api_keys import KeyTerms
from corral.service.accounts.services import AccountServices
from corral.service.accounts.usage import Spend, Usage
from corral.service.measures import Latency, Load, Measures
from corral.service.webhooks.webhooks import Webhooks


class Console:
    """Checks the caller's scopes, then calls the services of accounts, measures and webhooks."""

    def __init__(self, services: AccountServices, measures: Measures, webhooks: Webhooks) -> None:
        """Create the console over the services that it calls."""
        self._accounts = services.accounts
        self._keys = services.keys
        self._usage = services.usage
        self._measures = measures
        self._webhooks = webhooks

    async def account(self, caller: Caller) -> Account:
        """Get the caller's account, including its credit.

        Raises:
            PermissionDenied: the key may not read.
        """
        caller.require(Scope.READ)
        return await self._accounts.get(caller.account_id)

    async def spend(self, caller: Caller) -> Spend:
        """Get what the account has spent today and this month.

        Raises:
            PermissionDenied: the key may not read.
        """
        caller.require(Scope.READ)
        return await self._usage.spend(caller.account_id)

    async def usage(self, caller: Caller, *, days: int) -> list[Usage]:
        """Sum tokens and cost of the last *days* days, including today, by day, model, key and door; oldest first.

        Raises:
            PermissionDenied: the key may not read.
        """
        caller.require(Scope.READ)
        return await self._usage.totals(
            account_id=caller.account_id, by=("day", "model", "key_id", "door"), since_day=self.days(days)[0]
        )

    def days(self, count: int) -> list[str]:
        """List the last *count* days in UTC as ISO dates, ending with today."""
        return self._usage.last_days(count)

    async def latency(self, caller: Caller) -> Latency:
        """Get latency percentiles of the account's recent predictions.

        Raises:
            PermissionDenied: the key may not read.
        """
        caller.require(Scope.READ)
        return await self._measures.latency(caller.account_id)

    def load(self, caller: Caller) -> Load:
        """Get the current load of the engine, for all accounts together.

        Raises:
            PermissionDenied: the key may not read.
        """
        caller.require(Scope.READ)
        return self._measures.load()

    async def keys(self, caller: Caller, account_id: str | None = None) -> list[ApiKey]:
        """List the API keys of the caller's account or of *account_id*, usable keys first, then newest first.

        Raises:
            PermissionDenied: the key may not read, or may not manage other accounts.
        """
        account_id = self._allowed_account(caller, account_id)
        newest_first = (await self._keys.list(account_id))[::-1]
        return sorted(newest_first, key=self.is_over)

    def is_over(self, key: ApiKey) -> bool:
        """Return whether the key is expired or revoked."""
        return not self._keys.is_usable(key)

    async def create_key(self, caller: Caller, terms: KeyTerms, account_id: str | None = None) -> tuple[ApiKey, str]:
        """Create an API key; return it and its secret, which cannot be shown again.

        Raises:
            PermissionDenied: the key may not manage keys.
            InvalidRequest: a setting of the new key is invalid; ``param`` names it.
        """
        caller.require(Scope.ADMIN)
        return await self._keys.create(account_id or caller.account_id, terms)

    async def key(self, caller: Caller, key_id: str) -> ApiKey:
        """Get an API key of the caller's account, or any key with the admin scope.

        Raises:
            PermissionDenied: the key may not read.
            NotFound: there is no such key, or the caller may not see it.
        """
        if Scope.ADMIN not in caller.scopes:
            caller.require(Scope.READ)
        found = await self._keys.get(key_id)
        if found is None or (Scope.ADMIN not in caller.scopes and found.account_id != caller.account_id):
            raise NotFound(f"There is no key '{key_id}'.")
        return found

    async def revoke_key(self, caller: Caller, key_id: str) -> ApiKey:
        """Revoke an API key: requests with it are refused from now on.

        Raises:
            PermissionDenied: the key may not manage keys.
            NotFound: no key has this id.
        """
        caller.require(Scope.ADMIN)
        return await self._keys.revoke(key_id)

    async def accounts(self, caller: Caller) -> list[Account]:
        """List all accounts, oldest first.

        Raises:
            PermissionDenied: the key may not manage accounts.
        """
        caller.require(Scope.ADMIN)
        return await self._accounts.list()

    async def any_account(self, caller: Caller, account_id: str) -> tuple[Account, Spend]:
        """Get any account and what it has spent.

        Raises:
            PermissionDenied: the key may not manage accounts.
            NotFound: the account does not exist.
        """
        caller.require(Scope.ADMIN)
        return await self._accounts.get(account_id), await self._usage.spend(account_id)

    async def create_account(
        self, caller: Caller, name: str, *, unlimited: bool, limits: Limits, credit_nusd: int
    ) -> Account:
        """Create an account.

        Raises:
            PermissionDenied: the key may not manage accounts.
            InvalidRequest: the name is taken or not printable, or a limit or the credit is out of range.
        """
        caller.require(Scope.ADMIN)
        return await self._accounts.create(name, unlimited=unlimited, limits=limits, credit_nusd=credit_nusd)

    async def credit(
        self, caller: Caller, account_id: str, amount_nusd: int, *, note: str | None, idempotency_key: str
    ) -> Account:
        """Add credit to an account, once per *idempotency_key*; a negative amount withdraws credit.

        Raises:
            PermissionDenied: the key may not manage accounts.
            IdempotencyConflict: an earlier credit with the key had another amount or note.
            NotFound: the account does not exist.
            InvalidRequest: the amount is zero or too large.
            InsufficientCredit: the withdrawal exceeds the credit that is not held for runs.
        """
        caller.require(Scope.ADMIN)
        return await self._accounts.credit(account_id, amount_nusd, note=note, idempotency_key=idempotency_key)

    async def change_limits(self, caller: Caller, account_id: str, changes: Mapping[str, int | None]) -> Account:
        """Set the limits in *changes* (names as in ``Limits``; None removes a limit).

        Raises:
            PermissionDenied: the key may not manage accounts.
            NotFound: the account does not exist.
            InvalidRequest: a limit is out of range.
        """
        caller.require(Scope.ADMIN)
        return await self._accounts.change_limits(account_id, changes)

    async def webhook_secret(self, caller: Caller) -> str:
        """Get the account's webhook signing secret. Any key that may create webhooks may read it.

        Raises:
            PermissionDenied: the key may not run models.
        """
        caller.require(Scope.INFERENCE)
        return await self._webhooks.secret(caller.account_id)

    async def rotate_webhook_secret(self, caller: Caller) -> str:
        """Replace the webhook signing secret; the previous one stays valid for ``OVERLAP_S``.

        Raises:
            PermissionDenied: the key may not manage keys.
        """
        caller.require(Scope.ADMIN)
        return await self._webhooks.rotate(caller.account_id)

    async def deliveries(self, caller: Caller, prediction_id: str) -> list[Delivery]:
        """List the webhook deliveries of a prediction, newest first.

        Raises:
            PermissionDenied: the key may neither read nor run models.
        """
        caller.require(Scope.READ, Scope.INFERENCE)
        return await self._webhooks.deliveries(caller.account_id, prediction_id=prediction_id)

    async def replay(self, caller: Caller, delivery_id: str) -> Delivery:
        """Schedule a webhook delivery of the account to be sent again with the same id.

        Raises:
            PermissionDenied: the key may not run models.
            NotFound: the account has no such delivery.
        """
        caller.require(Scope.INFERENCE)
        return await self._webhooks.replay(delivery_id, account_id=caller.account_id)

    def _allowed_account(self, caller: Caller, account_id: str | None) -> str:
        """Return the requested account's id, or the caller's; raise `PermissionDenied` if it may not be read."""
        if Scope.ADMIN not in caller.scopes:
            caller.require(Scope.READ)
            if account_id not in (None, caller.account_id):
                caller.require(Scope.ADMIN)
        return account_id or caller.account_id
