"""From a request's bytes to a JSON document: bounded, gzip or plain."""

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
"""From here on a body is parsed in a thread: it may take longer than other callers should wait."""
_GZIP_WINDOW = 16 + zlib.MAX_WBITS
"""Tells zlib to expect gzip's head and checksum, and nothing else."""


class BodyTooLarge(InvalidRequest):
    """The body is larger than this server reads, as sent or once decompressed."""


class BodyEncoded(InvalidRequest):
    """The body is compressed in a way that is not offered."""


class BodyTooSlow(InvalidRequest):
    """The body did not arrive in time."""


class BodyLimit:
    """ASGI middleware: reading a body that is too large or too slow raises ``BodyTooLarge`` or ``BodyTooSlow``.

    A declared length is judged before the first byte is read, so the client is answered without sending it. A client
    that leaves before the end of its body is ``ClientGone``.
    """

    def __init__(self, app: ASGIApp, *, limit_bytes: int, limit_s: float) -> None:
        self._app = app
        self._limit_bytes = limit_bytes
        self._limit_s = limit_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the call on with a counting ``receive``."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        # The HTTP parser has refused anything but digits here.
        declared_bytes = int(Headers(scope=scope).get("content-length", "0"))
        body = _Body(receive, send, declared_bytes, limit_bytes=self._limit_bytes, limit_s=self._limit_s)
        return await self._app(scope, body.receive, body.send)


class _Body:
    """The body of one request, while it is read and after it was answered."""

    def __init__(self, receive: Receive, send: Send, declared_bytes: int, *, limit_bytes: int, limit_s: float) -> None:
        self._receive = receive
        self._send = send
        self._declared_bytes = declared_bytes
        self._limit_bytes = limit_bytes
        self._limit_s = limit_s
        self._seen_bytes = 0
        self._left_s = limit_s
        """Only the time for which the client is waited for counts."""
        self._complete = False
        self._answered = False

    async def receive(self) -> Message:
        """The next message; raises as ``BodyLimit`` says, and once an answer has begun, the client is gone instead."""
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
        """Pass the answer on; its connection is closed where the body was refused."""
        self._answered = True
        if (self._too_large or self._left_s <= 0) and message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), (b"connection", b"close")]
        elif self._too_large and not message.get("more_body", False):
            # A connection closed while its peer still writes takes the answer with it.
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
    """A message, and how much of *left_s* remains: nothing where none came in time."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + left_s
    try:
        async with asyncio.timeout_at(end_s):
            return await receive(), max(end_s - loop.time(), 1e-3)
    except TimeoutError:
        return {"type": "http.request", "body": b"", "more_body": True}, 0.0


async def _linger(receive: Receive) -> None:
    """Drop what the client still sends, for a while: until it has read the answer and closed, or is done."""
    more = True
    with suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_S):
            while more:
                more = (await receive()).get("more_body", False)


def _too_large(limit_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"The request body is larger than {limit_bytes} bytes.")


async def read_document(request: Request, *, limit_bytes: int) -> object:
    """The body as JSON, whatever ``Content-Type`` says.

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
    """The body, decompressed; raises as ``read_document`` does, but ``NotJson`` only for broken gzip."""
    encodings = ",".join(request.headers.getlist("content-encoding")).strip().lower()
    if encodings not in ("", "identity", "gzip", "x-gzip"):
        raise BodyEncoded("Send the request body as it is, or with 'Content-Encoding: gzip'; nothing else is read.")
    body = await request.body()
    return gunzip(body, limit_bytes=limit_bytes) if encodings.endswith("gzip") else body


def gunzip(body: bytes, *, limit_bytes: int) -> bytes:
    """What *body* was before gzip (RFC 1952), of one member. Memory is bounded, however much it would grow to.

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
