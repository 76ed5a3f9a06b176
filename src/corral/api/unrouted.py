"""Responses to requests without a handler, in the format of the API that the path belongs to.

That is: unknown addresses, methods that an address does not have, and anything while the server is being stopped.
"""

from collections.abc import Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from corral.api.addresses import Addresses, MethodNotAllowed, UnknownAddress
from corral.api.doors.deepinfra import errors as deepinfra
from corral.api.doors.openai import errors as openai
from corral.api.doors.replicate import errors as replicate
from corral.api.problems import Problem, report
from corral.core.errors import CorralError, ServerStopping

_OPENAI_ELSEWHERE: Final = frozenset((
    "assistants", "audio", "batches", "containers", "conversations", "embeddings", "evals", "fine_tuning", "images",
    "moderations", "organization", "realtime", "responses", "threads", "uploads", "vector_stores", "videos",
))  # fmt: skip
"""First path part of OpenAI routes that this server does not have."""
_OPENAI: Final = _OPENAI_ELSEWHERE | {"chat", "completions", "engines", "estimate", "openai"}
_REPLICATE: Final = frozenset((
    "account", "collections", "deployments", "files", "hardware", "predictions", "search", "streams", "trainings",
    "webhooks",
))  # fmt: skip
_DEEPINFRA: Final = frozenset((
    "api-tokens", "cli", "deploy", "inference", "logs", "me", "payment", "request-costs", "scoped-jwt",
))  # fmt: skip
_MAX_SHOWN_CHARS: Final = 120
_STOPPING: Final = "The server is being stopped. Send the request again in a few seconds."


def from_error_at(path: str, error: CorralError) -> Problem:
    """Build the error response in the format of the API that *path* belongs to; in all formats if it could be any."""
    parts = _parts_behind_v1(path)
    first = parts[0] if parts else ""
    if first in _OPENAI:
        return openai.from_error(error)
    if first in _DEEPINFRA or (first == "models" and not path.startswith("/v1/")):
        return deepinfra.from_error(error)
    if first in _REPLICATE:
        return replicate.from_error(error)
    return from_error_of_any(error)


def from_error_of_any(error: CorralError) -> Problem:
    """Build an error response with OpenAI's and Replicate's fields; no field name is in both."""
    in_openai, in_replicate = openai.from_error(error), replicate.from_error(error)
    return Problem(
        status=in_replicate.status,
        body={**in_openai.body, **in_replicate.body},
        headers={**in_openai.headers, **in_replicate.headers},
        media_type=in_replicate.media_type,
    )


class UnroutedRequests:
    """Exception handlers for requests that no route takes."""

    def __init__(self, addresses: Addresses, base_url: Callable[[Request], str]) -> None:
        """*base_url* returns the base URL of this server for a request."""
        self._addresses = addresses
        self._base_url = base_url

    async def unknown(self, request: Request, _error: Exception) -> Response:
        """404 with the probable path and the base URL for each kind of client."""
        path = request.url.path
        return from_error_at(path, UnknownAddress(self._where(request, path))).response()

    async def other_method(self, request: Request, _error: Exception) -> Response:
        """405 with ``Allow``, or the response to OPTIONS."""
        path = request.url.path
        allow = ", ".join(self._addresses.methods(path))
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={"allow": allow})
        error = MethodNotAllowed(f"{_shown(path)} takes {allow}; not {_shown(request.method)}.", allow=allow)
        return from_error_at(path, error).response()

    async def failed(self, request: Request, error: Exception) -> Response:
        """500 for an error outside every door, with an id only."""
        return from_error_at(request.url.path, report(error)).response()

    def _where(self, request: Request, path: str) -> str:
        base = self._base_url(request)
        there = f"There is no {_shown(path)} here."
        behind = _parts_behind_v1(path)
        if behind and behind[0] in _OPENAI_ELSEWHERE:
            served = "/v1/chat/completions, /v1/completions and /v1/models"
            return f"{there} Of OpenAI's API this server has {served}; base URL: {base}/v1"
        if (near := self._addresses.nearest(path)) is not None:
            there += f" Did you mean {_shown(near)}?"
        return (
            f"{there} Base URLs: OpenAI clients {base}/v1, Replicate clients {base}, DeepInfra clients {base}/v1/openai"
        )


class StopGate:
    """ASGI middleware that answers 503 to every request but ``/health`` while the server stops."""

    def __init__(self, app: ASGIApp, *, is_stopping: Callable[[], bool]) -> None:
        self._app = app
        self._is_stopping = is_stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it and close its connection."""
        if scope["type"] != "http" or not self._is_stopping():
            return await self._app(scope, receive, send)

        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), (b"connection", b"close")]
            await send(message)

        if scope["path"] == "/health":
            return await self._app(scope, receive, closing)
        answer = from_error_at(scope["path"], ServerStopping(_STOPPING)).response()
        return await answer(scope, receive, closing)


def _parts_behind_v1(path: str) -> list[str]:
    parts = [part for part in path.split("/") if part]
    while parts[:1] == ["v1"]:
        del parts[0]
    return parts


def _shown(text: str) -> str:
    """Shorten *text* for a message."""
    return text if len(text) <= _MAX_SHOWN_CHARS else text[:_MAX_SHOWN_CHARS] + "…"
