"""From a request's bytes to a wire model: bounded, JSON only. Knows no dialect."""

import asyncio
from contextlib import suppress
from typing import TypeVar

import orjson
from pydantic import BaseModel
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from corral.core.errors import InvalidRequest

_LINGER_S = 2.0

Wire = TypeVar("Wire", bound=BaseModel)


class BodyTooLarge(InvalidRequest):
    """The body is larger than this server reads."""


class NotJson(InvalidRequest):
    """The body is not a JSON document in UTF-8."""


class BodyEncoded(InvalidRequest):
    """The body is compressed, which is not offered."""


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
                raise self._too_large()
            message = await receive()
            if message["type"] == "http.request":
                seen_bytes += len(message.get("body", b""))
                if seen_bytes > self._limit_bytes:
                    raise self._too_large()
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

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"The request body is larger than {self._limit_bytes} bytes.")


async def _linger(receive: Receive) -> None:
    """Drop what the client still sends, for a while: until it has read the answer and closed, or is done."""
    more = True
    with suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_S):
            while more:
                more = (await receive()).get("more_body", False)


async def read_json(request: Request, wire: type[Wire]) -> Wire:
    """The body as *wire*, whatever ``Content-Type`` says.

    Raises:
        BodyTooLarge: see BodyLimit.
        BodyEncoded: the body is compressed.
        NotJson: not UTF-8, not JSON, a number outside double precision, or nested more than 1024 deep.
        pydantic.ValidationError: JSON of another form.
    """
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise BodyEncoded("Compressed request bodies are not supported; send the JSON as it is.")
    body = await request.body()
    try:
        document: object = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        # The decoder's own message says where, and never quotes the body.
        raise NotJson(f"The request body is not valid JSON: {error}.") from None
    return wire.model_validate(document)
