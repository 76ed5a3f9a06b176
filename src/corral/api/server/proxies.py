"""What a trusted proxy says of its client's request: address and scheme, as uvicorn reads them, and host."""

from typing import Any, Final, cast

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from corral.api.guards import FORWARDED_HOST
from corral.api.server.limits import Networks

_HEADER: Final = b"x-forwarded-host"


class TrustedProxies:
    """Reads ``X-Forwarded-*`` of connections from the networks of proxies, and of no others."""

    def __init__(self, app: ASGIApp, *, networks: Networks) -> None:
        inner = ProxyHeadersMiddleware(cast("Any", app), trusted_hosts=[str(network) for network in networks])
        self._trusted = inner.trusted_hosts
        self._inner = cast("ASGIApp", inner)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the call on; the host that was asked for is in the scope, for ``HostCheck``."""
        client = scope.get("client")
        if scope["type"] == "http" and client and client[0] in self._trusted:
            given = b",".join(value for name, value in scope["headers"] if name == _HEADER)
            if given:
                # Proxies append: what stands before the last comma may be the client's own.
                scope[FORWARDED_HOST] = given.decode("latin-1").rpartition(",")[2].strip()
        await self._inner(scope, receive, send)
