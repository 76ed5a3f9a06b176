"""ASGI middleware: Host check and security headers."""

import ipaddress
from collections.abc import Collection
from typing import Final

import orjson
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from corral.core.addresses import base_url

ANY_HOST: Final = "*"
FORWARDED_HOST: Final = "corral.forwarded_host"
"""Key in the scope: host that a trusted proxy was asked for."""
_MAX_SHOWN_CHARS: Final = 120

_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class HostCheck:
    """Rejects requests whose Host is not allowed (protection against DNS rebinding).

    A page of any site can have its own name resolved to this machine (DNS rebinding) and would then read answers as
    its own; the Host header still bears the page's name. Loopback names are always served. Where a trusted proxy says
    which host it was asked for, that one must be allowed too, and stands for the Host header from here on.
    """

    def __init__(self, app: ASGIApp, *, allowed: Collection[str]) -> None:
        """*allowed* are host names or addresses without port; ``*`` allows any."""
        self._app = app
        self._any = ANY_HOST in allowed
        self._allowed = frozenset(name.lower().strip("[]") for name in allowed)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 421."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        forwarded: str | None = scope.get(FORWARDED_HOST)
        hosts = Headers(scope=scope).getlist("host")
        if not self._any and not (len(hosts) == 1 and self._serves(host_name(hosts[0]))):
            return await _refusal("Host", hosts[0] if hosts else "")(scope, receive, send)
        if forwarded is None:
            return await self._app(scope, receive, send)
        if not (_is_authority(forwarded) and self._serves(host_name(forwarded))):
            return await _refusal("X-Forwarded-Host", forwarded)(scope, receive, send)
        headers = [(name, value) for name, value in scope["headers"] if name != b"host"]
        scope["headers"] = [*headers, (b"host", forwarded.encode("ascii"))]
        return await self._app(scope, receive, send)

    def _serves(self, name: str) -> bool:
        return self._any or name in self._allowed or is_loopback(name)


def _refusal(header: str, host: str) -> Response:
    shown = host if len(host) <= _MAX_SHOWN_CHARS else host[:_MAX_SHOWN_CHARS] + "…"
    detail = f"{header} '{shown}' is not allowed. Add it to 'allowed_hosts' or set 'public_url'."
    return Response(orjson.dumps({"detail": detail}), 421, media_type="application/json")


def _is_authority(text: str) -> bool:
    """Whether the text is a host name or address with an optional port."""
    try:
        base_url(f"http://{text}", path=False)
    except ValueError:
        return False
    return "/" not in text


def host_name(host: str) -> str:
    """Host name or address of a Host header: lower case, without port, brackets and final dot."""
    name, _, _ = host[1:].partition("]") if host.startswith("[") else host.partition(":")
    return name.lower().removesuffix(".")


def is_loopback(name: str) -> bool:
    """Whether a name or address means this machine (RFC 6761, section 6.3)."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class SecurityHeaders:
    """Adds security headers that the response does not set itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the headers to the response."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)

        async def complete(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        return await self._app(scope, receive, complete)
