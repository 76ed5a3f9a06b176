"""API keys and scoped tokens: create, list, revoke, authenticate. The store holds digests of secrets only."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from corral.core.accounts import Account, ApiKey, Scope
from corral.core.caller import Caller
from corral.core.errors import InvalidRequest, NotFound, Unauthenticated
from corral.service.accounts import scoped_tokens
from corral.service.accounts.scoped_tokens import Signer, TokenTerms
from corral.store.books import accounts, keys
from corral.store.key_file import KEY_PREFIX
from corral.store.store import Connection, Store

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


@dataclass(frozen=True, slots=True, kw_only=True)
class _LocalKey:
    """Key of the local account, with its secret from the key file, so that it can sign tokens."""

    id: str
    secret: str


class ApiKeys:
    """Creates, lists and revokes API keys, signs scoped tokens, and authenticates callers with either."""

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
        self._local: _LocalKey | None = None

    async def authenticate(self, secret: str) -> Caller | None:
        """Authenticate an API key or a scoped token; return None if it is unknown, revoked or expired.

        The lookup is by digest, so its duration reveals nothing about the secret. There is no cache: a revocation takes
        effect at the next request, in every process.
        """
        if secret.startswith(scoped_tokens.PREFIX):
            return await self._authenticate_token(secret)
        found = await self._store.read(partial(keys.find_key, digest=self._digest(secret)))
        return None if found is None else self._caller(*found)

    async def key_id_of(self, secret: str) -> str:
        """Get the id of the API key with this secret.

        Raises:
            Unauthenticated: no key has this secret.
        """
        found = await self._store.read(partial(keys.find_key, digest=self._digest(secret)))
        if found is None:
            raise Unauthenticated("No API key has this secret.")
        return found[0].id

    async def caller_of(self, key_id: str) -> Caller | None:
        """Get the caller of the key *key_id*; None as in `authenticate`. The secret must have been checked before."""
        key = await self._store.read(partial(keys.get_key, key_id=key_id))
        return None if key is None else self._caller(key, await self._owner(key))

    async def ensure_local_key(self, secret: str) -> None:
        """Create the unlimited `local` account and a key with *secret* for it, unless they exist."""
        digest, now_ms = self._digest(secret), self.now_ms()

        def work(connection: Connection) -> str:
            local = accounts.ensure_local_account(connection, now_ms=now_ms)
            key = keys.NewKey(account_id=local.id, name="local", digest=digest, scopes=frozenset(Scope))
            return keys.ensure_key(connection, key, now_ms=now_ms).id

        self._local = _LocalKey(id=await self._store.write(work), secret=secret)

    async def create(self, account_id: str, terms: KeyTerms) -> tuple[ApiKey, str]:
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
            digest=self._digest(secret),
            scopes=terms.scopes,
            models=terms.models,
            expires_at_ms=terms.expires_at_ms,
            spend_limit_nusd=terms.spend_limit_nusd,
            privacy=terms.privacy,
            salt=salt,
        )
        return await self._store.write(partial(keys.add_key, new=key, now_ms=now_ms)), secret

    async def get(self, key_id: str) -> ApiKey | None:
        """Get an API key by its id, also if it is revoked or expired; None if there is none."""
        return await self._store.read(partial(keys.get_key, key_id=key_id))

    async def revoke(self, key_id: str) -> ApiKey:
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
        key = next((key for key in await self.list(account_id) if key.id == key_id and self.is_usable(key)), None)
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
        for key in await self.list(by.account_id):
            secret = self._secret_of(key) if key.name == by.key_name and self.is_usable(key) else None
            if secret is not None:
                terms = scoped_tokens.read(token, by=by, secret=secret, now_s=self._clock())
                if terms is not None:
                    return key, terms
        return None

    def is_usable(self, key: ApiKey) -> bool:
        """Return whether the key is neither revoked nor expired."""
        expired = key.expires_at_ms is not None and key.expires_at_ms <= self.now_ms()
        return not expired and key.revoked_at_ms is None

    async def list(self, account_id: str | None = None) -> list[ApiKey]:
        """List the API keys of one account, or of all accounts, oldest first."""
        return await self._store.read(partial(keys.list_keys, account_id=account_id))

    def now_ms(self) -> int:
        """Get the current Unix time in milliseconds."""
        return int(self._clock() * 1000)

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

    def _caller(self, key: ApiKey, owner: Account | None) -> Caller | None:
        if not self.is_usable(key) or owner is None:
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

    def _secret_of(self, key: ApiKey) -> str | None:
        """Get the secret of a key for signing; None if it cannot be derived or is too short."""
        if key.salt is not None:
            return self._derive_secret(key.salt)
        local = self._local
        if local is None or key.id != local.id or len(local.secret.encode()) < scoped_tokens.MIN_SECRET_BYTES:
            return None
        return local.secret

    def _derive_secret(self, salt: bytes) -> str:
        """Derive a key's secret from its salt and the pepper (256 bits)."""
        derived = hmac.digest(self._pepper, b"api-key:" + salt, hashlib.sha256)
        return KEY_PREFIX + base64.b32encode(derived).decode().lower().rstrip("=")

    def _digest(self, secret: str) -> bytes:
        """Compute the digest of a key's secret: HMAC-SHA256 with the server's pepper."""
        return hmac.digest(self._pepper, secret.encode(errors="replace"), hashlib.sha256)
