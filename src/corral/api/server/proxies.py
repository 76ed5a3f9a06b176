"""Read ``X-Forwarded-*`` headers of trusted proxies."""

from typing import Any, Final, cast

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from corral.api.guards import FORWARDED_HOST
from corral.api.server.limits import Networks

_HEADER: Final = b"x-forwarded-host"


class TrustedProxies:
    """ASGI middleware that applies ``X-Forwarded-*`` headers from trusted networks only."""

    def __init__(self, app: ASGIApp, *, networks: Networks) -> None:
        inner = ProxyHeadersMiddleware(cast("Any", app), trusted_hosts=[str(network) for network in networks])
        self._trusted = inner.trusted_hosts
        self._inner = cast("ASGIApp", inner)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Apply the headers; the forwarded host is put into the scope for ``HostCheck``."""
        client = scope.get("client")
        if scope["type"] == "http" and client and client[0] in self._trusted:
            given = b",".join(value for name, value in scope["headers"] if name == _HEADER)
            if given:
                # Proxies append: what stands before the last comma may be the client's own.
                scope[FORWARDED_HOST] = given.decode("latin-1").rpartition(",")[2].strip()
        await self._inner(scope, receive, send)
