"""Accounts, API keys and usage: authentication, credit and limits. The store holds digests of secrets only."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from corral.core.accounts import Account, ApiKey, Limits, Scope
from corral.core.caller import Caller
from corral.core.errors import InvalidRequest, NotFound, Unauthenticated
from corral.service.accounts import scoped_tokens
from corral.service.accounts.scoped_tokens import Signer, TokenTerms
from corral.store.books import accounts, keys, usage
from corral.store.books.reconcile import reconcile
from corral.store.books.usage import Dimension, Spend, Usage
from corral.store.key_file import KEY_PREFIX
from corral.store.runs import predictions
from corral.store.store import Connection, Store

__all__ = ["DEFAULT_SCOPES", "Accounts", "Dimension", "KeyTerms", "Spend", "Usage"]

_SALT_BYTES: Final = 32
DEFAULT_SCOPES: Final = frozenset({Scope.INFERENCE, Scope.READ})


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyTerms:
    """Settings of a new API key."""

    name: str
    scopes: frozenset[Scope] = DEFAULT_SCOPES
    models: tuple[str, ...] | None = None
    expires_at_ms: int | None = None
    spend_limit_nusd: int | None = None
    privacy: bool = False


class Accounts:
    """Creates, reads and changes accounts and API keys, and authenticates callers."""

    def __init__(self, store: Store, *, pepper: bytes, clock: Callable[[], float]) -> None:
        """Create the service over *store*; *clock* returns Unix time in seconds.

        Raises:
            ValueError: the pepper is shorter than 32 bytes, which would make key digests guessable.
        """
        if len(pepper) < hashlib.sha256().digest_size:
            raise ValueError("the pepper must have at least 32 bytes")
        self._store = store
        self._pepper = pepper
        self._clock = clock
        self._local_key_id: str | None = None
        self._local_secret: str | None = None
        """Secret of the local key (read from the key file at every start); lets that key sign tokens."""

    async def authenticate(self, secret: str) -> Caller | None:
        """Authenticate an API key or a scoped token; return None if it is unknown, revoked or expired.

        The lookup is by digest, so its duration reveals nothing about the secret. There is no cache: a revocation takes
        effect at the next request, in every process.
        """
        if secret.startswith(scoped_tokens.PREFIX):
            return await self._authenticate_token(secret)
        found = await self._store.read(partial(keys.find_key, digest=self.digest(secret)))
        return None if found is None else self._caller(*found)

    async def key_id_of(self, secret: str) -> str:
        """Get the id of the API key with this secret.

        Raises:
            Unauthenticated: no key has this secret.
        """
        found = await self._store.read(partial(keys.find_key, digest=self.digest(secret)))
        if found is None:
            raise Unauthenticated("No API key has this secret.")
        return found[0].id

    async def caller_of(self, key_id: str) -> Caller | None:
        """Get the caller of the key *key_id*; None as in `authenticate`. The secret must have been checked before."""
        key = await self._store.read(partial(keys.get_key, key_id=key_id))
        return None if key is None else self._caller(key, await self._owner(key))

    def _caller(self, key: ApiKey, owner: Account | None) -> Caller | None:
        if not self._usable(key) or owner is None:
            return None
        return Caller(
            account_id=key.account_id,
            key_id=key.id,
            scopes=key.scopes,
            models=key.models,
            privacy=key.privacy,
            unlimited=owner.unlimited,
        )

    async def _owner(self, key: ApiKey) -> Account | None:
        return await self._store.read(partial(accounts.get_account, account_id=key.account_id))

    async def admit_local(self, secret: str) -> None:
        """Create the unlimited `local` account and a key with *secret* for it, unless they exist."""
        digest, now_ms = self.digest(secret), self.now_ms()

        def work(connection: Connection) -> str:
            local = accounts.ensure_local_account(connection, now_ms=now_ms)
            key = keys.NewKey(account_id=local.id, name="local", digest=digest, scopes=frozenset(Scope))
            return keys.ensure_key(connection, key, now_ms=now_ms).id

        self._local_key_id = await self._store.write(work)
        self._local_secret = secret

    async def create_account(
        self, name: str, *, unlimited: bool = False, limits: Limits | None = None, credit_nusd: int = 0
    ) -> Account:
        """Create an account with a unique name.

        Raises:
            InvalidRequest: the name is taken or not printable, or a limit or the credit is out of range.
        """
        now_ms = self.now_ms()

        def work(connection: Connection) -> Account:
            made = accounts.create_account(connection, name=name, unlimited=unlimited, limits=limits, now_ms=now_ms)
            if credit_nusd == 0:
                return made
            return accounts.credit(connection, made.id, credit_nusd, now_ms=now_ms)

        return await self._store.write(work)

    async def accounts(self) -> list[Account]:
        """List all accounts, oldest first."""
        return await self._store.read(accounts.list_accounts)

    async def account(self, name_or_id: str) -> Account:
        """Get an account by its id or its name.

        Raises:
            InvalidRequest: no account has this id or name.
        """
        for account in await self.accounts():
            if name_or_id in {account.id, account.name}:
                return account
        raise InvalidRequest(f"No account is called '{name_or_id}'; `corral account list` shows them.")

    async def account_of(self, account_id: str) -> Account:
        """Get an account by its id.

        Raises:
            NotFound: no account has this id.
        """
        found = await self._store.read(partial(accounts.get_account, account_id=account_id))
        if found is None:
            raise NotFound(f"There is no account '{account_id}'.", param="account")
        return found

    async def credit(self, account_id: str, amount_nusd: int, *, note: str | None = None) -> Account:
        """Add credit to an account; a negative amount withdraws credit."""
        now_ms = self.now_ms()
        return await self._store.write(
            partial(accounts.credit, account_id=account_id, amount_nusd=amount_nusd, note=note, now_ms=now_ms)
        )

    async def change_limits(self, account_id: str, changes: Mapping[str, int | None]) -> Account:
        """Set the limits in *changes* (names as in ``Limits``; None removes a limit). Other limits stay unchanged.

        Raises:
            NotFound: the account does not exist.
            InvalidRequest: a limit is out of range.
        """

        def work(connection: Connection) -> Account:
            accounts.lock_account(connection, account_id)
            account = accounts.get_account(connection, account_id)
            limits = Limits() if account is None else account.limits
            return accounts.set_limits(connection, account_id, replace(limits, **changes))

        return await self._store.write(work)

    async def spend(self, account_id: str) -> Spend:
        """Get what the account has spent today and this month, in UTC.

        Raises:
            NotFound: the account does not exist.
        """
        found = await self._store.read(partial(usage.spend, account_id=account_id, now_ms=self.now_ms()))
        if found is None:
            raise NotFound(f"There is no account '{account_id}'.", param="account")
        return found

    async def create_key(self, account_id: str, terms: KeyTerms) -> tuple[ApiKey, str]:
        """Create an API key; return it and its secret, which cannot be shown again.

        Raises:
            NotFound: the account does not exist.
            InvalidRequest: the name or spend limit is invalid, there is no scope, or the expiry is in the past.
        """
        now_ms = self.now_ms()
        if terms.expires_at_ms is not None and terms.expires_at_ms <= now_ms:
            raise InvalidRequest("The expiry is in the past; choose a later time.", param="expires")
        if not terms.scopes:
            raise InvalidRequest("An API key needs at least one scope.", param="scopes")
        salt = secrets.token_bytes(_SALT_BYTES)
        secret = self._derive_secret(salt)
        key = keys.NewKey(
            account_id=account_id,
            name=terms.name,
            digest=self.digest(secret),
            scopes=terms.scopes,
            models=terms.models,
            expires_at_ms=terms.expires_at_ms,
            spend_limit_nusd=terms.spend_limit_nusd,
            privacy=terms.privacy,
            salt=salt,
        )
        return await self._store.write(partial(keys.add_key, new=key, now_ms=now_ms)), secret

    async def keys(self, account_id: str | None = None) -> list[ApiKey]:
        """List the API keys of one account, or of all accounts, oldest first."""
        return await self._store.read(partial(keys.list_keys, account_id=account_id))

    async def find_key(self, key_id: str) -> ApiKey | None:
        """Get an API key by its id, also if it is revoked or expired; None if there is none."""
        return await self._store.read(partial(keys.get_key, key_id=key_id))

    async def revoke_key(self, key_id: str) -> ApiKey:
        """Revoke an API key: requests with it are refused from now on.

        Raises:
            NotFound: no key has this id.
        """
        now_ms = self.now_ms()
        revoked = await self._store.write(partial(keys.revoke_key, key_id=key_id, now_ms=now_ms))
        if revoked is None:
            raise NotFound(f"There is no key '{key_id}'.")
        return revoked

    async def sign_token(self, account_id: str, key_id: str, terms: TokenTerms) -> str:
        """Create a scoped token signed with an API key of the account.

        Raises:
            InvalidRequest: the account has no such key, or the key's secret cannot sign.
        """
        key = next((key for key in await self.keys(account_id) if key.id == key_id and self._usable(key)), None)
        if key is None:
            raise InvalidRequest(f"There is no key '{key_id}'.", param="api_key_name")
        secret = self._secret_of(key)
        if secret is None:
            raise InvalidRequest(
                f"The key '{key.name}' cannot sign tokens: the server cannot derive its secret, or the secret is too"
                " short. Create a new key for it.",
                param="api_key_name",
            )
        return scoped_tokens.sign(terms, by=Signer(account_id=account_id, key_name=key.name), secret=secret)

    async def read_token(self, token: str) -> tuple[ApiKey, TokenTerms] | None:
        """Verify a scoped token; return its key and terms, or None if it is invalid, expired or its key is revoked."""
        by = scoped_tokens.read_signer(token)
        if by is None:
            return None
        for key in await self.keys(by.account_id):
            secret = self._secret_of(key) if key.name == by.key_name and self._usable(key) else None
            if secret is not None:
                terms = scoped_tokens.read(token, by=by, secret=secret, now_s=self._clock())
                if terms is not None:
                    return key, terms
        return None

    async def usage(
        self,
        *,
        account_id: str | None,
        by: tuple[Dimension, ...],
        since_day: str | None = None,
        until_day: str | None = None,
    ) -> list[Usage]:
        """Sum tokens and cost by the dimensions *by*, from *since_day* to *until_day* inclusive."""
        wanted = partial(usage.usage, account_id=account_id, by=by, since_day=since_day, until_day=until_day)
        return await self._store.read(wanted)

    async def receipt(self, prediction_id: str) -> dict[str, Any]:
        """Get the receipt of any account's prediction. Operators only.

        Raises:
            UnknownPrediction: no prediction has this id.
            InvalidRequest: the prediction has not ended.
        """

        def work(connection: Connection) -> dict[str, Any]:
            found = predictions.find(connection, prediction_id)
            if found.receipt is None:
                raise InvalidRequest(f"The prediction is {found.status}; it gets a receipt when it ends.")
            return found.receipt

        return await self._store.read(work)

    async def reconcile(self) -> list[str]:
        """Check the ledger, predictions and counters against each other; return one sentence for each difference."""
        return await self._store.read(reconcile)

    async def _authenticate_token(self, token: str) -> Caller | None:
        found = await self.read_token(token)
        if found is None:
            return None
        key, terms = found
        owner = await self._owner(key)
        models = key.models
        if terms.models is not None:
            models = tuple(name for name in map(str.lower, terms.models) if key.models is None or name in key.models)
        return Caller(
            account_id=key.account_id,
            key_id=key.id,
            scopes=key.scopes & {Scope.INFERENCE},
            models=models,
            privacy=key.privacy,
            token=scoped_tokens.scoped(token, terms),
            unlimited=owner is not None and owner.unlimited,
        )

    def _usable(self, key: ApiKey) -> bool:
        expired = key.expires_at_ms is not None and key.expires_at_ms <= self.now_ms()
        return not expired and key.revoked_at_ms is None

    def _secret_of(self, key: ApiKey) -> str | None:
        """Get the secret of a key for signing; None if it cannot be derived or is too short."""
        if key.salt is not None:
            return self._derive_secret(key.salt)
        local = self._local_secret
        if local is None or key.id != self._local_key_id or len(local.encode()) < scoped_tokens.MIN_SECRET_BYTES:
            return None
        return local

    def _derive_secret(self, salt: bytes) -> str:
        """Derive a key's secret from its salt and the pepper (256 bits)."""
        derived = hmac.digest(self._pepper, b"api-key:" + salt, hashlib.sha256)
        return KEY_PREFIX + base64.b32encode(derived).decode().lower().rstrip("=")

    def digest(self, secret: str) -> bytes:
        """Compute the digest of a key's secret: HMAC-SHA256 with the server's pepper."""
        return hmac.digest(self._pepper, secret.encode(errors="replace"), hashlib.sha256)

    def now_ms(self) -> int:
        """Get the current Unix time in milliseconds."""
        return int(self._clock() * 1000)
