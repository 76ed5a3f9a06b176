"""CORS for the origins in the settings: API keys are allowed, cookies never."""

from collections.abc import Collection
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ANY_ORIGIN: Final = "*"
_METHODS: Final = "GET, HEAD, POST, PATCH, PUT, DELETE, QUERY"
_EXPOSED: Final = (
    "corral-prediction, corral-weights, idempotency-replayed, location, preference-applied, ratelimit-remaining, "
    "ratelimit-reset, retry-after, x-request-id, x-should-retry"
)
_MAX_ASKED_CHARS: Final = 2048
_MAX_AGE_S: Final = 600


class Cors:
    """ASGI middleware that adds CORS headers and answers preflight requests.

    ``Access-Control-Allow-Credentials`` is never sent, so a page can use an API key and nobody's session.
    """

    def __init__(self, app: ASGIApp, *, origins: Collection[str]) -> None:
        """*origins* are written as browsers send them (``https://app.example``); ``*`` allows any."""
        self._app = app
        self._any = ANY_ORIGIN in origins
        self._origins = frozenset(origin.lower() for origin in origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a preflight request, or add the headers to the response."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = Headers(scope=scope)
        origin = headers.get("origin", "")
        allowed = bool(origin) and (self._any or origin.lower() in self._origins)
        if allowed and scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            return await self._answer_preflight(headers, origin, send)

        async def complete(message: Message) -> None:
            if message["type"] == "http.response.start":
                answered = MutableHeaders(scope=message)
                answered.add_vary_header("Origin")
                if allowed:
                    answered.setdefault("access-control-allow-origin", self._allow(origin))
                    answered.setdefault("access-control-expose-headers", _EXPOSED)
            await send(message)

        return await self._app(scope, receive, complete)

    def _allow(self, origin: str) -> str:
        return ANY_ORIGIN if self._any else origin

    async def _answer_preflight(self, headers: Headers, origin: str, send: Send) -> None:
        told = {
            "access-control-allow-origin": self._allow(origin),
            "access-control-allow-methods": _METHODS,
            "access-control-max-age": str(_MAX_AGE_S),
            "vary": "Origin, Access-Control-Request-Headers",
        }
        asked = headers.get("access-control-request-headers", "")
        if 0 < len(asked) <= _MAX_ASKED_CHARS:
            told["access-control-allow-headers"] = asked
        raw = [(name.encode(), value.encode("latin-1")) for name, value in told.items()]
        await send({"type": "http.response.start", "status": 204, "headers": raw})
        await send({"type": "http.response.body", "body": b""})
