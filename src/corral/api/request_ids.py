"""Request ids, in log lines and in the ``x-request-id`` response header."""

import re
import secrets
import time
from collections.abc import Callable
from typing import Final

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER: Final = "x-request-id"
_GIVEN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_MAX_SHOWN_CHARS: Final = 200

_log = structlog.get_logger(__name__)


class RequestIds:
    """ASGI middleware that takes the request id of a proxy or creates one, and logs each request at debug level."""

    def __init__(self, app: ASGIApp, *, steady_s: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._steady_s = steady_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Set the id, pass the request on, and log it."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        given = Headers(scope=scope).get(HEADER, "")
        request_id = given if _GIVEN.match(given) else f"req_{secrets.token_hex(12)}"
        begun_s = self._steady_s()
        status = 0

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).setdefault(HEADER, request_id)
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, named)
            finally:
                took_ms = round(1000 * (self._steady_s() - begun_s), 1)
                _log.debug(
                    "request_ended", method=scope["method"], route=_route(scope), status=status, duration_ms=took_ms
                )


def _route(scope: Scope) -> str:
    """Path template of the route, because some paths contain secrets; the path itself if no route matched."""
    template = getattr(scope.get("route"), "path", None)
    return template or scope["path"][:_MAX_SHOWN_CHARS]
