"""What every door is given: the service, who may enter, and how the server is reached. Values only."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request

from corral.api.auth import KeyRing
from corral.service.ports import Predictions

BODY_LIMIT_BYTES: Final = 2 * 1024**2
PING_S: Final = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One server as its doors see it."""

    predictions: Predictions
    keys: KeyRing
    clock: Callable[[], float]
    """Unix time in seconds."""
    ping_s: float = PING_S
    """Silence in an event stream after which a comment is sent."""
    body_limit_bytes: int = BODY_LIMIT_BYTES
    """Larger request bodies are answered 413, and compressed ones may not grow beyond it."""
    public_url: str = ""
    """Base of the addresses that are handed out; empty: as each client reached the server."""

    def base_url(self, request: Request) -> str:
        """Where the client reaches this server, without a final slash.

        The Host header can be trusted here, since requests in another host's name are refused before any route.
        """
        return (self.public_url or f"{request.url.scheme}://{request.headers['host']}").rstrip("/")
