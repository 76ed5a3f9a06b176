"""From a request's bytes to a JSON document: bounded, gzip or plain."""

import asyncio
import zlib
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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


class BodyLimit:
    """ASGI middleware: whoever reads a body larger than the limit gets ``BodyTooLarge`` from ``receive``.

    A declared length is judged before the first byte is read, so the client is answered without sending it.
    """

    def __init__(self, app: ASGIApp, *, limit_bytes: int) -> None:
        self._app = app
        self._limit_bytes = limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the call on with a counting ``receive``."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        # The HTTP parser has refused anything but digits here.
        declared_bytes = int(Headers(scope=scope).get("content-length", "0"))
        seen_bytes = 0

        async def bounded() -> Message:
            nonlocal seen_bytes
            if declared_bytes > self._limit_bytes:
                raise _too_large(self._limit_bytes)
            message = await receive()
            if message["type"] == "http.request":
                seen_bytes += len(message.get("body", b""))
                if seen_bytes > self._limit_bytes:
                    raise _too_large(self._limit_bytes)
            return message

        async def closing(message: Message) -> None:
            too_large = max(declared_bytes, seen_bytes) > self._limit_bytes
            if too_large and message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), (b"connection", b"close")]
            elif too_large and not message.get("more_body", False):
                # A connection closed while its peer still writes takes the answer with it.
                await send({**message, "more_body": True})
                await _linger(receive)
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        return await self._app(scope, bounded, closing)


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
