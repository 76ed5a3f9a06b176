"""From an ``Authorization`` header to a caller. Knows nothing of what the caller wants."""

from typing import Protocol

from starlette.requests import Request

from corral.core.caller import Caller
from corral.core.errors import Unauthenticated

_MAX_SECRET_CHARS = 512


class KeyRing(Protocol):
    """The API keys that open this server."""

    async def authenticate(self, secret: str) -> Caller | None:
        """The caller whose key *secret* is, or None; takes the same time for any wrong secret of the same length."""
        ...


async def authenticate(request: Request, keys: KeyRing, *, other_header: str | None = None) -> Caller:
    """The caller that the request's one ``Authorization: Bearer`` header names.

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
    if len(values) > 1 or scheme.lower() != "bearer" or not 0 < len(secret) <= _MAX_SECRET_CHARS:
        raise Unauthenticated("Not authenticated: expected one header 'Authorization: Bearer <key>'.")
    caller = await keys.authenticate(secret)
    if caller is None:
        raise Unauthenticated("Not authenticated: the API key is not valid.")
    return caller
