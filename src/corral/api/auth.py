"""Authenticate requests by API key."""

from typing import Protocol

from starlette.requests import Request

from corral.core.accounts import Account, ApiKey
from corral.core.caller import Caller
from corral.core.errors import Unauthenticated
from corral.service.accounts.accounts import Dimension, KeyTerms, Usage
from corral.service.accounts.scoped_tokens import TokenTerms

_MAX_SECRET_CHARS = 8192
"""Long enough for scoped tokens."""
KEY_HEADER = "xi-api-key"
"""Header for the bare key where there is no ``Authorization``; in DeepInfra's API and on the routes that it shares."""
_SCHEMES = ("bearer", "token")
"""``token`` is Replicate's older scheme, which its examples still show."""


class KeyRing(Protocol):
    """Authenticates API keys."""

    async def authenticate(self, secret: str) -> Caller | None:
        """Get the caller by secret; None if it is invalid. Takes the same time for all wrong secrets of one length."""
        ...


class AccountBook(KeyRing, Protocol):
    """API keys and accounts, as doors use them. See ``service.accounts.Accounts``."""

    async def account(self, name_or_id: str, /) -> Account:
        """Get an account by id.

        Raises:
            InvalidRequest: there is none.
        """
        ...

    async def keys(self, account_id: str | None = None) -> list[ApiKey]:
        """List all API keys of the account, revoked ones included, oldest first."""
        ...

    async def create_key(self, account_id: str, terms: KeyTerms) -> tuple[ApiKey, str]:
        """Create an API key. Its secret cannot be shown again.

        Raises:
            InvalidRequest: a bad name.
        """
        ...

    async def revoke_key(self, key_id: str) -> ApiKey:
        """Revoke an API key; later requests with it fail.

        Raises:
            InvalidRequest: there is no such key.
        """
        ...

    async def sign_token(self, account_id: str, key_id: str, terms: TokenTerms) -> str:
        """Create a scoped token signed with the account's API key.

        Raises:
            InvalidRequest: there is no such key, or it cannot sign.
        """
        ...

    async def read_token(self, token: str) -> tuple[ApiKey, TokenTerms] | None:
        """Get the key and limits of a scoped token; None if it is invalid or expired."""
        ...

    async def usage(
        self,
        *,
        account_id: str | None,
        by: tuple[Dimension, ...],
        since_day: str | None = None,
        until_day: str | None = None,
    ) -> list[Usage]:
        """Sum tokens and cost by the given dimensions over an inclusive range of days."""
        ...


async def authenticate(request: Request, keys: KeyRing, *, other_header: str | None = None) -> Caller:
    """Get the caller of a request by its ``Authorization`` header: ``Bearer <key>`` or ``Token <key>``.

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
