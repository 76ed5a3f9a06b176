"""What every door is given: the service, who may enter, and how the server is reached. Values only."""

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from starlette.requests import Request

from corral.api.auth import AccountBook
from corral.core.errors import Unsupported
from corral.service.accounts.files import Files
from corral.service.deployments import DeploymentAdmin
from corral.service.ports import Predictions

BODY_LIMIT_BYTES: Final = 2 * 1024**2
BODY_LIMIT_S: Final = 120.0
PING_S: Final = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeTerms:
    """What DeepInfra's own history leaves open about its native answers."""

    repetition_penalty: float = 1.0
    """The default of inference: 1.2 in its documentation of 2023, 1 later."""
    full_text: bool = False
    """Whether a text begins with the prompt: its documentation said so, its programs relied on the contrary."""
    stream_done: bool = False
    """Whether ``[DONE]`` follows the last event of a stream."""
    stream_eos_text: bool = False
    """Whether the event of EOS has the text ``</s>``, as DeepInfra streamed in 2023, instead of none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RateTerms:
    """What Replicate's clients are told of, and held to, unless their account is unlimited. 0 is no limit."""

    creates_per_minute: int = 600
    requests_per_minute: int = 3000


async def _no_secret(_account_id: str) -> str:
    raise Unsupported("This server sends no webhooks.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One server as its doors see it."""

    predictions: Predictions
    keys: AccountBook
    clock: Callable[[], float]
    """Unix time in seconds."""
    ping_s: float = PING_S
    """Silence in an event stream after which a comment is sent."""
    body_limit_bytes: int = BODY_LIMIT_BYTES
    """Larger request bodies are answered 413, and compressed ones may not grow beyond it."""
    body_limit_s: float = BODY_LIMIT_S
    """Request bodies that take longer to arrive are answered 408."""
    native: NativeTerms = field(default_factory=NativeTerms)
    concurrent_per_model: int = 0
    """Runs that one account may have of one model at once, which the service enforces; 0 is no limit."""
    capability_key: bytes = field(default_factory=partial(secrets.token_bytes, 32))
    """What addresses that need no API key are made with; they are good for as long as it stays the same."""
    rates: RateTerms = field(default_factory=RateTerms)
    replicate_aborted_status: bool = False
    """Whether Replicate's door tells what was stopped before it began as ``aborted`` instead of ``canceled``."""
    webhook_secret: Callable[[str], Awaitable[str]] = _no_secret
    """What receivers of an account's webhooks check signatures with."""
    files: Files | None = None
    """What callers leave here for a day; None where nothing is kept."""
    deployments: DeploymentAdmin | None = None
    """Use cases of ``/corral/v1/deployments``; None serves no such routes."""
    public_url: str = ""
    """Base of the addresses that are handed out; empty: as each client reached the server."""

    def base_url(self, request: Request) -> str:
        """Where the client reaches this server, without a final slash.

        The Host header can be trusted here, since requests in another host's name are refused before any route.
        """
        return reached_at(request, self.public_url)


def reached_at(request: Request, public_url: str) -> str:
    """Where a client reaches this server, without a final slash: *public_url*, or if that is empty, as it just did."""
    # ``netloc`` is the Host header, or the address of the socket where an HTTP/1.0 client sends none.
    return (public_url or f"{request.url.scheme}://{request.url.netloc}").rstrip("/")
