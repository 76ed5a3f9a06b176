"""Accounts and API keys: who may enter, who pays. Secrets exist here for a moment only; what is stored is a digest."""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from corral.core.accounts import Account, ApiKey, Limits, Scope
from corral.core.caller import Caller
from corral.core.errors import InvalidRequest
from corral.store import accounts, keys, usage
from corral.store.key_file import KEY_PREFIX, new_secret
from corral.store.reconcile import reconcile
from corral.store.store import Connection, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyTerms:
    """What a new key may do."""

    name: str
    scopes: frozenset[Scope] = frozenset({Scope.INFERENCE, Scope.READ})
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
        if found is None:
            return None
        key, _ = found
        expired = key.expires_at_ms is not None and key.expires_at_ms <= self._now_ms()
        if expired or key.revoked_at_ms is not None:
            return None
        return Caller(
            account_id=key.account_id, key_id=key.id, scopes=key.scopes, models=key.models, privacy=key.privacy
        )

    async def admit_local(self, secret: str) -> None:
        """Make sure that the unlimited account of this machine exists, and that *secret* is a key of it."""
        digest, now_ms = self.digest(secret), self._now_ms()

        def work(connection: Connection) -> None:
            local = accounts.ensure_local_account(connection, now_ms=now_ms)
            key = keys.NewKey(account_id=local.id, name="local", digest=digest, scopes=frozenset(Scope))
            keys.ensure_key(connection, key, now_ms=now_ms)

        await self._store.write(work)

    async def create_account(self, name: str, *, unlimited: bool = False, limits: Limits | None = None) -> Account:
        """A new account without credit."""
        now_ms = self._now_ms()
        return await self._store.write(
            partial(accounts.create_account, name=name, unlimited=unlimited, limits=limits, now_ms=now_ms)
        )

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
        now_ms = self._now_ms()
        return await self._store.write(
            partial(accounts.credit, account_id=account_id, amount_nusd=amount_nusd, note=note, now_ms=now_ms)
        )

    async def create_key(self, account_id: str, terms: KeyTerms) -> tuple[ApiKey, str]:
        """A new key and its secret, which nobody can show again."""
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
        now_ms = self._now_ms()
        return await self._store.write(partial(keys.add_key, new=key, now_ms=now_ms)), secret

    async def keys(self, account_id: str | None = None) -> list[ApiKey]:
        """Every key, of one account or of all, oldest first."""
        return await self._store.read(partial(keys.list_keys, account_id=account_id))

    async def revoke_key(self, key_id: str) -> ApiKey:
        """Revoke a key: no request with it is let in any more.

        Raises:
            InvalidRequest: there is no such key.
        """
        now_ms = self._now_ms()
        revoked = await self._store.write(partial(keys.revoke_key, key_id=key_id, now_ms=now_ms))
        if revoked is None:
            raise InvalidRequest(f"There is no key '{key_id}'.")
        return revoked

    async def usage(self, *, account_id: str | None, by: tuple[usage.Dimension, ...]) -> list[usage.Usage]:
        """Sums of tokens and cost by the given dimensions."""
        return await self._store.read(partial(usage.usage, account_id=account_id, by=by))

    async def reconcile(self) -> list[str]:
        """Every difference in the books, each in a sentence."""
        return await self._store.read(reconcile)

    def digest(self, secret: str) -> bytes:
        """HMAC-SHA256 of a key's secret under the server's pepper."""
        return hmac.digest(self._pepper, secret.encode(errors="replace"), hashlib.sha256)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)
