"""Accounts and API keys: who may enter, who pays. Secrets exist here for a moment only; what is stored is a digest."""

import hashlib
import hmac
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from corral.core.accounts import Account, ApiKey, Limits, Scope
from corral.core.caller import Caller
from corral.core.errors import InvalidRequest, Unauthenticated, UnknownPrediction
from corral.store import accounts, keys, predictions, usage
from corral.store.key_file import KEY_PREFIX, new_secret
from corral.store.reconcile import reconcile
from corral.store.store import Connection, Store
from corral.store.usage import Dimension, Spend, Usage

__all__ = ["DEFAULT_SCOPES", "Accounts", "Dimension", "KeyTerms", "Spend", "Usage"]

DEFAULT_SCOPES: Final = frozenset({Scope.INFERENCE, Scope.READ})


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyTerms:
    """What a new key may do."""

    name: str
    scopes: frozenset[Scope] = DEFAULT_SCOPES
    models: tuple[str, ...] | None = None
    expires_at_ms: int | None = None
    spend_limit_nusd: int | None = None
    privacy: bool = False


class Accounts:
    """Accounts, keys and usage over one store."""

    def __init__(self, store: Store, *, pepper: bytes, clock: Callable[[], float]) -> None:
        """Take the store over.

        Raises:
            ValueError: the pepper is shorter than 32 bytes; without it digests of keys could be guessed.
        """
        if len(pepper) < hashlib.sha256().digest_size:
            raise ValueError("the pepper must have at least 32 bytes")
        self._store = store
        self._pepper = pepper
        self._clock = clock

    async def authenticate(self, secret: str) -> Caller | None:
        """The caller whose key *secret* is; None for a key that is unknown, revoked or expired.

        Looked up by digest, so neither time nor cache tells anything of a secret; and looked up every time, so that a
        revocation holds at once, in every process.
        """
        found = await self._store.read(partial(keys.find_key, digest=self.digest(secret)))
        return None if found is None else self._caller(found[0])

    async def key_id_of(self, secret: str) -> str:
        """The id of the key whose secret is *secret*.

        Raises:
            Unauthenticated: there is none.
        """
        found = await self._store.read(partial(keys.find_key, digest=self.digest(secret)))
        if found is None:
            raise Unauthenticated("There is no such key.")
        return found[0].id

    async def caller_of(self, key_id: str) -> Caller | None:
        """The caller whose key has that id; None as above. For whoever proved before to hold the key."""
        found = await self._store.read(partial(keys.get_key, key_id=key_id))
        return None if found is None else self._caller(found)

    def _caller(self, key: ApiKey) -> Caller | None:
        expired = key.expires_at_ms is not None and key.expires_at_ms <= self.now_ms()
        if expired or key.revoked_at_ms is not None:
            return None
        return Caller(
            account_id=key.account_id, key_id=key.id, scopes=key.scopes, models=key.models, privacy=key.privacy
        )

    async def admit_local(self, secret: str) -> None:
        """Make sure that the unlimited account of this machine exists, and that *secret* is a key of it."""
        digest, now_ms = self.digest(secret), self.now_ms()

        def work(connection: Connection) -> None:
            local = accounts.ensure_local_account(connection, now_ms=now_ms)
            key = keys.NewKey(account_id=local.id, name="local", digest=digest, scopes=frozenset(Scope))
            keys.ensure_key(connection, key, now_ms=now_ms)

        await self._store.write(work)

    async def create_account(
        self, name: str, *, unlimited: bool = False, limits: Limits | None = None, credit_nusd: int = 0
    ) -> Account:
        """A new account under a name of its own.

        Raises:
            InvalidRequest: the name is taken or cannot be shown, or a limit or the credit is out of range.
        """
        now_ms = self.now_ms()

        def work(connection: Connection) -> Account:
            if any(name in {each.name, each.id} for each in accounts.list_accounts(connection)):
                raise InvalidRequest(f"There is an account called '{name}' already.", param="name")
            made = accounts.create_account(connection, name=name, unlimited=unlimited, limits=limits, now_ms=now_ms)
            if credit_nusd == 0:
                return made
            return accounts.credit(connection, made.id, credit_nusd, now_ms=now_ms)

        return await self._store.write(work)

    async def accounts(self) -> list[Account]:
        """Every account, oldest first."""
        return await self._store.read(accounts.list_accounts)

    async def account(self, name_or_id: str) -> Account:
        """The account of that id, or of that name if only one has it.

        Raises:
            InvalidRequest: there is none, or several have the name.
        """
        found = [account for account in await self.accounts() if name_or_id in {account.id, account.name}]
        if len(found) != 1:
            raise InvalidRequest(f"{len(found) or 'No'} accounts are called '{name_or_id}'; give an id.")
        return found[0]

    async def credit(self, account_id: str, amount_nusd: int, *, note: str | None = None) -> Account:
        """Give credit, or take it back with a negative amount."""
        now_ms = self.now_ms()
        return await self._store.write(
            partial(accounts.credit, account_id=account_id, amount_nusd=amount_nusd, note=note, now_ms=now_ms)
        )

    async def change_limits(self, account_id: str, changes: Mapping[str, int | None]) -> Account:
        """Set the limits that *changes* names as ``Limits`` does, None taking one away; the others stay.

        Raises:
            InvalidRequest: no such account, or a limit out of range.
        """

        def work(connection: Connection) -> Account:
            accounts.lock_account(connection, account_id)
            account = accounts.get_account(connection, account_id)
            limits = Limits() if account is None else account.limits
            return accounts.set_limits(connection, account_id, replace(limits, **changes))

        return await self._store.write(work)

    async def spend(self, account_id: str) -> Spend:
        """What the account has spent today and this month in UTC.

        Raises:
            InvalidRequest: there is no such account.
        """
        found = await self._store.read(partial(usage.spend, account_id=account_id, now_ms=self.now_ms()))
        if found is None:
            raise InvalidRequest(f"There is no account '{account_id}'.", param="account")
        return found

    async def create_key(self, account_id: str, terms: KeyTerms) -> tuple[ApiKey, str]:
        """A new key and its secret, which nobody can show again.

        Raises:
            InvalidRequest: no such account, a bad name, no scope, an expiry that is past, or a negative spend limit.
        """
        now_ms = self.now_ms()
        if terms.expires_at_ms is not None and terms.expires_at_ms <= now_ms:
            raise InvalidRequest("The key would be expired from the beginning.", param="expires")
        if not terms.scopes:
            raise InvalidRequest("A key without a scope could do nothing.", param="scopes")
        secret = new_secret(KEY_PREFIX)
        key = keys.NewKey(
            account_id=account_id,
            name=terms.name,
            digest=self.digest(secret),
            scopes=terms.scopes,
            models=terms.models,
            expires_at_ms=terms.expires_at_ms,
            spend_limit_nusd=terms.spend_limit_nusd,
            privacy=terms.privacy,
        )
        return await self._store.write(partial(keys.add_key, new=key, now_ms=now_ms)), secret

    async def keys(self, account_id: str | None = None) -> list[ApiKey]:
        """Every key, of one account or of all, oldest first."""
        return await self._store.read(partial(keys.list_keys, account_id=account_id))

    async def revoke_key(self, key_id: str) -> ApiKey:
        """Revoke a key: no request with it is let in any more.

        Raises:
            InvalidRequest: there is no such key.
        """
        now_ms = self.now_ms()
        revoked = await self._store.write(partial(keys.revoke_key, key_id=key_id, now_ms=now_ms))
        if revoked is None:
            raise InvalidRequest(f"There is no key '{key_id}'.")
        return revoked

    async def usage(
        self,
        *,
        account_id: str | None,
        by: tuple[Dimension, ...],
        since_day: str | None = None,
        until_day: str | None = None,
    ) -> list[Usage]:
        """Sums of tokens and cost by the given dimensions, from the first of the days to the last, both included."""
        wanted = partial(usage.usage, account_id=account_id, by=by, since_day=since_day, until_day=until_day)
        return await self._store.read(wanted)

    async def receipt(self, prediction_id: str) -> dict[str, Any]:
        """The receipt of a prediction, whosever it is: for the operator, not for callers.

        Raises:
            UnknownPrediction: there is none of that id.
            InvalidRequest: it is not over.
        """

        def work(connection: Connection) -> dict[str, Any]:
            for account in accounts.list_accounts(connection):
                with suppress(UnknownPrediction):
                    found = predictions.get(connection, account.id, prediction_id)
                    if found.receipt is None:
                        raise InvalidRequest(f"The prediction is {found.status}; its receipt comes with its end.")
                    return found.receipt
            raise UnknownPrediction(f"There is no prediction '{prediction_id}'.")

        return await self._store.read(work)

    async def reconcile(self) -> list[str]:
        """Every difference in the books, each in a sentence."""
        return await self._store.read(reconcile)

    def digest(self, secret: str) -> bytes:
        """HMAC-SHA256 of a key's secret under the server's pepper."""
        return hmac.digest(self._pepper, secret.encode(errors="replace"), hashlib.sha256)

    def now_ms(self) -> int:
        """Unix time in milliseconds."""
        return int(self._clock() * 1000)
