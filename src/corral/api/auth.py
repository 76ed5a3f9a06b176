"""Authenticate requests by API key."""

from typing import Protocol

from starlette.requests import Request

from corral.core.caller import Caller
from corral.core.errors import Unauthenticated

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
