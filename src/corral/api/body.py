"""Read request bodies as JSON: bounded in size and time, plain or gzip."""

import asyncio
import zlib
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from corral.api.disconnect import ClientGone
from corral.api.json_document import NotJson, parse_json
from corral.core.errors import InvalidRequest

_LINGER_S = 2.0
_LONG_BODY_BYTES = 2**16
"""Larger bodies are parsed in a thread, so that other requests do not wait."""
_GZIP_WINDOW = 16 + zlib.MAX_WBITS
"""Makes zlib accept gzip only."""


class BodyTooLarge(InvalidRequest):
    """The body exceeds the limit, as sent or decompressed."""


class BodyEncoded(InvalidRequest):
    """The body has an unsupported ``Content-Encoding``."""


class BodyTooSlow(InvalidRequest):
    """The body did not arrive in time."""


class BodyLimit:
    """ASGI middleware that raises ``BodyTooLarge`` or ``BodyTooSlow`` when the body exceeds the limit of size or time.

    A declared length is judged before the first byte is read, so the client is answered without sending it. A client
    that leaves before the end of its body is ``ClientGone``.
    """

    def __init__(self, app: ASGIApp, *, limit_bytes: int, limit_s: float) -> None:
        self._app = app
        self._limit_bytes = limit_bytes
        self._limit_s = limit_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wrap ``receive`` and ``send`` of HTTP requests."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        # The HTTP parser accepts digits only.
        declared_bytes = int(Headers(scope=scope).get("content-length", "0"))
        body = _Body(receive, send, declared_bytes, limit_bytes=self._limit_bytes, limit_s=self._limit_s)
        return await self._app(scope, body.receive, body.send)


class _Body:
    """State of one request body."""

    def __init__(self, receive: Receive, send: Send, declared_bytes: int, *, limit_bytes: int, limit_s: float) -> None:
        self._receive = receive
        self._send = send
        self._declared_bytes = declared_bytes
        self._limit_bytes = limit_bytes
        self._limit_s = limit_s
        self._seen_bytes = 0
        self._left_s = limit_s
        """Counts down only while waiting for the client."""
        self._complete = False
        self._answered = False

    async def receive(self) -> Message:
        """Receive the next message and check the limits; after the response has begun, report a disconnect instead."""
        self._refuse_too_large(self._declared_bytes)
        if self._complete:
            return await self._receive()
        message, self._left_s = await _receive_within(self._receive, self._left_s)
        self._seen_bytes += len(message.get("body", b""))
        self._complete = not message.get("more_body", False)
        if self._answered:
            late = self._left_s <= 0 or self._too_large
            return {"type": "http.disconnect"} if late else message
        if self._left_s <= 0:
            raise BodyTooSlow(f"The request body did not arrive within {self._limit_s:g} seconds.")
        self._refuse_too_large(self._seen_bytes)
        if message["type"] == "http.disconnect":
            raise ClientGone
        return message

    async def send(self, message: Message) -> None:
        """Send the response; closes the connection if the body was refused."""
        self._answered = True
        if (self._too_large or self._left_s <= 0) and message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), (b"connection", b"close")]
        elif self._too_large and not message.get("more_body", False):
            # Closing while the client still sends would discard the response.
            await self._send({**message, "more_body": True})
            await _linger(self._receive)
            message = {"type": "http.response.body", "body": b""}
        await self._send(message)

    @property
    def _too_large(self) -> bool:
        return max(self._declared_bytes, self._seen_bytes) > self._limit_bytes

    def _refuse_too_large(self, size_bytes: int) -> None:
        if size_bytes > self._limit_bytes and not self._answered:
            raise _too_large(self._limit_bytes)


async def _receive_within(receive: Receive, left_s: float) -> tuple[Message, float]:
    """Receive a message within *left_s*; returns it with the remaining time, 0 after a timeout."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + left_s
    try:
        async with asyncio.timeout_at(end_s):
            return await receive(), max(end_s - loop.time(), 1e-3)
    except TimeoutError:
        return {"type": "http.request", "body": b"", "more_body": True}, 0.0


async def _linger(receive: Receive) -> None:
    """Drop what the client still sends until it has read the response, for at most ``_LINGER_S``."""
    more = True
    with suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_S):
            while more:
                more = (await receive()).get("more_body", False)


def _too_large(limit_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"The request body is larger than {limit_bytes} bytes.")


async def read_document(request: Request, *, limit_bytes: int) -> object:
    """Read the body as JSON, whatever ``Content-Type`` says.

    Args:
        request: whose body nobody has read yet.
        limit_bytes: most that a compressed body may grow to; ``BodyLimit`` bounds what is sent.

    Raises:
        BodyTooLarge: see above.
        BodyEncoded: compressed otherwise than by gzip.
        NotJson: broken gzip, or as ``parse_json`` raises it.
    """
    body = await read_body(request, limit_bytes=limit_bytes)
    return parse_json(body) if len(body) < _LONG_BODY_BYTES else await asyncio.to_thread(parse_json, body)


async def read_body(request: Request, *, limit_bytes: int) -> bytes:
    """Read and decompress the body; raises as ``read_document`` does, but ``NotJson`` only for broken gzip."""
    encodings = ",".join(request.headers.getlist("content-encoding")).strip().lower()
    if encodings not in ("", "identity", "gzip", "x-gzip"):
        raise BodyEncoded("Send the request body as it is, or with 'Content-Encoding: gzip'; nothing else is read.")
    body = await request.body()
    return gunzip(body, limit_bytes=limit_bytes) if encodings.endswith("gzip") else body


def gunzip(body: bytes, *, limit_bytes: int) -> bytes:
    """Decompress a single gzip member (RFC 1952) with bounded memory.

    Raises:
        BodyTooLarge: it grows beyond *limit_bytes*.
        NotJson: it is not gzip, not all of it, or more than one member.
    """
    member = zlib.decompressobj(_GZIP_WINDOW)
    try:
        plain = member.decompress(body, limit_bytes + 1)
    except zlib.error:
        raise NotJson("The request body is not valid gzip.") from None
    if len(plain) > limit_bytes:
        raise _too_large(limit_bytes)
    if not member.eof or member.unused_data:
        raise NotJson("The request body must be one complete gzip member.")
    return plain
