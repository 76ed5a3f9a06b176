"""From an ``Authorization`` header to a caller. Knows nothing of what the caller wants."""

import hashlib
import hmac
import secrets
from collections.abc import Collection, Mapping
from typing import Protocol

from starlette.requests import Request

from corral.core.accounts import Scope
from corral.core.caller import Caller
from corral.core.errors import Unauthenticated

_MAX_SECRET_CHARS = 512


class KeyRing(Protocol):
    """The API keys that open this server."""

    async def authenticate(self, secret: str) -> Caller | None:
        """The caller whose key *secret* is, or None; takes the same time for any wrong secret of the same length."""
        ...


class StaticKeyRing:
    """A fixed set of keys, held as HMAC-SHA256 digests under a key that only this object knows."""

    def __init__(
        self,
        secret_by_key_id: Mapping[str, str],
        *,
        account_id: str = "local",
        scopes: Collection[Scope] = (Scope.INFERENCE, Scope.READ),
    ) -> None:
        """Digest each secret; the secrets themselves are not kept. All keys are of one account and have *scopes*.

        Raises:
            ValueError: a secret is empty or longer than ``authenticate`` would look at.
        """
        if not all(0 < len(secret) <= _MAX_SECRET_CHARS for secret in secret_by_key_id.values()):
            raise ValueError(f"an API key must have 1 to {_MAX_SECRET_CHARS} characters")
        self._pepper = secrets.token_bytes(32)
        self._account_id = account_id
        self._scopes = frozenset(scopes)
        self._digests = {key_id: self._digest(secret) for key_id, secret in secret_by_key_id.items()}

    async def authenticate(self, secret: str) -> Caller | None:
        """The caller whose key *secret* is, or None. Every digest is compared, whichever matches."""
        digest = self._digest(secret)
        found = [key_id for key_id, known in self._digests.items() if hmac.compare_digest(known, digest)]
        return Caller(account_id=self._account_id, key_id=found[0], scopes=self._scopes) if found else None

    def _digest(self, secret: str) -> bytes:
        return hmac.digest(self._pepper, secret.encode(errors="replace"), hashlib.sha256)


async def authenticate(request: Request, keys: KeyRing) -> Caller:
    """The caller that the request's one ``Authorization: Bearer`` header names.

    Raises:
        Unauthenticated: no such header, more than one, another scheme, or a key that is not known.
    """
    values = request.headers.getlist("authorization")
    if not values:
        raise Unauthenticated("Not authenticated: send your API key as 'Authorization: Bearer <key>'.")
    scheme, _, secret = values[0].partition(" ")
    secret = secret.strip()
    if len(values) > 1 or scheme.lower() != "bearer" or not 0 < len(secret) <= _MAX_SECRET_CHARS:
        raise Unauthenticated("Not authenticated: expected one header 'Authorization: Bearer <key>'.")
    caller = await keys.authenticate(secret)
    if caller is None:
        raise Unauthenticated("Not authenticated: the API key is not valid.")
    return caller
