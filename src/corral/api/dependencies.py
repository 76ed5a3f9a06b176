"""What doors depend on: the service, authentication, limits and options."""

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from starlette.requests import Request

from corral.api.account_ports import AccountReader, KeyManager, UsageReader
from corral.core.errors import Unsupported
from corral.service.accounts.files import Files
from corral.service.deployments import DeploymentAdmin
from corral.service.ports import Predictions

BODY_LIMIT_BYTES: Final = 2 * 1024**2
BODY_LIMIT_S: Final = 120.0
PING_S: Final = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeOptions:
    """Options of DeepInfra's native API, where its documentation and behaviour differed over time."""

    repetition_penalty: float = 1.0
    """Default of inference: 1.2 in the documentation of 2023, 1 later."""
    full_text: bool = False
    """Whether texts begin with the prompt, as the documentation said; its programs did not."""
    stream_done: bool = False
    """Whether ``[DONE]`` follows the last event of a stream."""
    stream_eos_text: bool = False
    """Whether the EOS event has the text ``</s>``, as in 2023."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimits:
    """Rate limits of the Replicate API per account; 0 is unlimited."""

    creates_per_minute: int = 600
    requests_per_minute: int = 3000


async def _no_secret(_account_id: str) -> str:
    raise Unsupported("This server sends no webhooks.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    """Dependencies and options of all doors."""

    predictions: Predictions
    accounts: AccountReader
    keys: KeyManager
    usage: UsageReader
    clock: Callable[[], float]
    """Unix time in seconds."""
    ping_s: float = PING_S
    """Seconds of silence after which an event stream sends a comment."""
    body_limit_bytes: int = BODY_LIMIT_BYTES
    """Larger request bodies are answered 413; also the limit after decompression."""
    body_limit_s: float = BODY_LIMIT_S
    """Request bodies that take longer are answered 408."""
    native: NativeOptions = field(default_factory=NativeOptions)
    concurrent_per_model: int = 0
    """Concurrent runs of one account per model; enforced by the service. 0 is unlimited."""
    capability_key: bytes = field(default_factory=partial(secrets.token_bytes, 32))
    """Key that signs URLs which need no API key."""
    rates: RateLimits = field(default_factory=RateLimits)
    replicate_aborted_status: bool = False
    """Whether the Replicate API reports runs canceled before their start as ``aborted`` instead of ``canceled``."""
    webhook_secret: Callable[[str], Awaitable[str]] = _no_secret
    """Gets the webhook signing secret of an account."""
    files: Files | None = None
    """Uploaded files; None if uploads are off."""
    deployments: DeploymentAdmin | None = None
    """Use cases of ``/corral/v1/deployments``; None serves no such routes."""
    public_url: str = ""
    """Base of URLs in responses; empty to use the address of each request."""

    def base_url(self, request: Request) -> str:
        """Base URL of this server as the client reaches it, without a final slash.

        The Host header can be trusted here, since requests in another host's name are refused before any route.
        """
        return reached_at(request, self.public_url)


def reached_at(request: Request, public_url: str) -> str:
    """Base URL of this server: *public_url*, or the address of the request if that is empty; without a final slash."""
    # ``netloc`` is the Host header, or the address of the socket where an HTTP/1.0 client sends none.
    return (public_url or f"{request.url.scheme}://{request.url.netloc}").rstrip("/")
