"""From an ``Authorization`` header to a caller. Knows nothing of what the caller wants."""

from typing import Protocol

from starlette.requests import Request

from corral.core.accounts import Account, ApiKey
from corral.core.caller import Caller
from corral.core.errors import Unauthenticated
from corral.service.accounts.accounts import Dimension, KeyTerms, Usage
from corral.service.accounts.scoped_tokens import TokenTerms

_MAX_SECRET_CHARS = 8192
"""Tokens that keys sign are long."""
KEY_HEADER = "xi-api-key"
"""Holds the bare key where there is no ``Authorization``, in DeepInfra's API and on the routes that it shares."""
_SCHEMES = ("bearer", "token")
"""The second is Replicate's older one, which its examples still show."""


class KeyRing(Protocol):
    """The API keys that open this server."""

    async def authenticate(self, secret: str) -> Caller | None:
        """The caller whose key *secret* is, or None; takes the same time for any wrong secret of the same length."""
        ...


class AccountBook(KeyRing, Protocol):
    """The keys, and what their holders may know and do of accounts. See ``service.accounts.Accounts``."""

    async def account(self, name_or_id: str, /) -> Account:
        """The account of that id.

        Raises:
            InvalidRequest: there is none.
        """
        ...

    async def keys(self, account_id: str | None = None) -> list[ApiKey]:
        """Every key of the account, revoked ones included, oldest first."""
        ...

    async def create_key(self, account_id: str, terms: KeyTerms) -> tuple[ApiKey, str]:
        """A new key and its secret, which nobody can show again.

        Raises:
            InvalidRequest: a bad name.
        """
        ...

    async def revoke_key(self, key_id: str) -> ApiKey:
        """Revoke a key: no request with it is let in any more.

        Raises:
            InvalidRequest: there is no such key.
        """
        ...

    async def sign_token(self, account_id: str, key_id: str, terms: TokenTerms) -> str:
        """A token that the account's key signs.

        Raises:
            InvalidRequest: there is no such key, or it cannot sign.
        """
        ...

    async def read_token(self, token: str) -> tuple[ApiKey, TokenTerms] | None:
        """Which key signed a token, and what it may do; None for one that is not good, or not any more."""
        ...

    async def usage(
        self,
        *,
        account_id: str | None,
        by: tuple[Dimension, ...],
        since_day: str | None = None,
        until_day: str | None = None,
    ) -> list[Usage]:
        """Sums of tokens and cost by the given dimensions, from the first of the days to the last, both included."""
        ...


async def authenticate(request: Request, keys: KeyRing, *, other_header: str | None = None) -> Caller:
    """The caller that the request's one ``Authorization`` header names, as ``Bearer <key>`` or ``Token <key>``.

    Args:
        request: whose headers are read.
        keys: what opens this server.
        other_header: holds the bare key where there is no ``Authorization``, in dialects that have such a header.

    Raises:
        Unauthenticated: no such header, more than one, another scheme, or a key that is not known.
    """
    values = request.headers.getlist("authorization")
    if not values and other_header is not None:
        values = [f"Bearer {secret}" for secret in request.headers.getlist(other_header)]
    if not values:
        raise Unauthenticated("Not authenticated: send your API key as 'Authorization: Bearer <key>'.")
    scheme, _, secret = values[0].partition(" ")
    secret = secret.strip()
    if len(values) > 1 or scheme.lower() not in _SCHEMES or not 0 < len(secret) <= _MAX_SECRET_CHARS:
        raise Unauthenticated("Not authenticated: expected one header 'Authorization: Bearer <key>'.")
    caller = await keys.authenticate(secret)
    if caller is None:
        raise Unauthenticated("Not authenticated: the API key is not valid.")
    return caller
