"""One HTTP/1.1 connection: uvicorn's httptools protocol with limits of size and time for what the client must send.

The parser keeps an unfinished header and copies it with each packet, so bytes are counted before it is fed.
"""

import asyncio
import sys
from collections.abc import Callable
from enum import Enum
from http import HTTPStatus
from typing import Any, Final, cast

import httptools
import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from corral.api.server.connections import Connections
from corral.api.server.limits import CHUNK_FRAMING_BYTES, MAX_HEAD_BYTES, MAX_HEADERS, ConnectionLimits

_LINGER_S: Final = 2.0
"""Time for a refused client to read the response; closing at once would discard it."""
_OLD_HTTP: Final = "1.0"


class _Owed(Enum):
    """What the client must send next; each has a time limit."""

    NOTHING = "nothing"
    """The server's turn: however long an answer takes, it is waited for."""
    FIRST_HEAD = "first head"
    HEAD = "head"
    BODY = "body"
    NEXT_REQUEST = "next request"


class LimitedProtocol(HttpToolsProtocol):
    """Connection that limits header sizes and closes when its client is silent for too long."""

    def __init__(self, *args: Any, limits: ConnectionLimits, connections: Connections, **options: Any) -> None:
        """Takes uvicorn's arguments, *limits*, and the registry *connections* of the server."""
        super().__init__(*args, **options)
        self._limits = limits
        self._connections = connections
        self._owed: tuple[_Owed, int] = _Owed.NOTHING, 0
        self._timer: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._reading: _Owed = _Owed.NOTHING
        """HEAD or BODY while a request is being read."""
        self._requests = 0
        """Requests that have begun."""
        self._closing = False
        self._framing_bytes = 0
        """Bytes of the part that is being read that are no body."""
        self._framing_limit_bytes = MAX_HEAD_BYTES
        self._piece_body_bytes = 0
        self._part_ended = False
        """Whether a head or a message ended within the piece that was just fed."""
        self._header_count = 0
        self._resuming = False
        """Whether a new parser is being told of a head that was read already."""
        self._unread_bytes = 0
        """Of a body whose request was answered before it was read."""

    # What the transport calls

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Register the connection, or answer 503."""
        super().connection_made(transport)
        if self._connections.admit(self, self.client[0] if self.client else None, now_s=self.loop.time()):
            self._watch()
        else:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "Too many connections are open. Try again.", retry_after_s=5)

    def connection_lost(self, exc: Exception | None) -> None:
        """Unregister the connection and cancel its timers."""
        self._connections.release(self)
        for timer in (self._timer, self._stalled):
            if timer is not None:
                timer.cancel()
        self._closing = True
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, never more than the limit of what is no body."""
        at = 0
        while at < len(data) and not self._closing:
            room = max(1, self._framing_limit_bytes - self._framing_bytes)
            piece = data if not at and len(data) <= room else data[at : at + room]
            at += len(piece)
            self._feed(piece)
        if not self._closing:
            self._watch()

    def pause_writing(self) -> None:
        """Wait for the client to read, up to ``send_s``."""
        super().pause_writing()
        if self._stalled is None:
            self._stalled = self.loop.call_later(self._limits.send_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Continue: the client has read."""
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    # What the parser calls

    def on_message_begin(self) -> None:
        """A request begins."""
        if self._resuming:
            return
        self._reading = _Owed.HEAD
        self._requests += 1
        self._header_count = self._unread_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A part of a request's address."""
        if not self._resuming:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer, which is dropped because header checks have already run."""
        if self._resuming:
            return
        self._header_count += 1
        if self._header_count <= MAX_HEADERS and self._reading is _Owed.HEAD:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Start the request, unless it has too many headers."""
        if self._resuming:
            return
        self._end_part(_Owed.BODY)
        if self._header_count <= MAX_HEADERS:
            super().on_headers_complete()

    def on_chunk_header(self) -> None:
        """A chunk's size line is no extension."""
        self._framing_limit_bytes += CHUNK_FRAMING_BYTES

    def on_body(self, body: bytes) -> None:
        """Hand on a piece of a body; one that nobody reads any more is dropped up to the limit of a body."""
        self._piece_body_bytes += len(body)
        if self._header_count > MAX_HEADERS:
            return
        if not self._answering:
            self._unread_bytes += len(body)
            return
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request was read to its end, or to its body where it asks to upgrade."""
        if self.parser.should_upgrade() and self._body_framing():
            return
        self._end_part(_Owed.NOTHING)
        if self._header_count <= MAX_HEADERS:
            super().on_message_complete()

    # What the answer calls

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._unset_keepalive_if_required()  # its time is watched here
        if not self._closing:
            self._watch()

    def close_idle(self) -> None:
        """Close a connection that has no request."""
        self._closing = True
        self.transport.abort()

    def end(self) -> None:
        """Close at shutdown: at once if a request is open, otherwise after its response is sent."""
        self._closing = True
        if self._answering:
            self.transport.abort()
        else:
            self.transport.close()

    # uvicorn names these in its own methods

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        answering = _answering(cycle, app, round(self._limits.keep_alive_s))
        super()._start_asgi_task(cycle, cast("Any", answering))

    def _should_upgrade(self) -> bool:
        return False

    # Reading

    def _feed(self, piece: bytes) -> None:
        self._piece_body_bytes, self._part_ended = 0, False
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            self._decline_upgrade()
            rest = piece[upgrade.args[0] :]
            if rest:
                self._feed(rest)
            return
        except httptools.HttpParserError:
            self._refuse(HTTPStatus.BAD_REQUEST, "Invalid HTTP request received.")
            return
        if not self._part_ended:
            self._framing_bytes += len(piece) - self._piece_body_bytes
        if self._header_count > MAX_HEADERS:
            text = f"The request has more than {MAX_HEADERS} headers and trailers."
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, text)
        elif self._framing_bytes >= self._framing_limit_bytes:
            what = "trailers and chunk extensions" if self._reading is _Owed.BODY else "request line and headers"
            text = f"The {what} of the request are larger than {MAX_HEAD_BYTES // 1024} kB."
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, text)
        elif self._unread_bytes > self._limits.body_bytes:
            self._close()

    def _decline_upgrade(self) -> None:
        """Continue in HTTP/1.1: Java's client asks for HTTP/2 with every first request, body included.

        The parser takes a body after such a request for another protocol's bytes, so a new one is told what follows.
        """
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        if self._reading is _Owed.BODY:
            framing = b"".join(b"%b: %b\r\n" % header for header in self._body_framing())
            self._resuming = True
            self.parser.feed_data(b"POST / HTTP/1.1\r\n" + framing + b"\r\n")
            self._resuming = False

    def _body_framing(self) -> list[tuple[bytes, bytes]]:
        """Headers that announce a body; empty without one."""
        names = (b"content-length", b"transfer-encoding")
        return [(name, value) for name, value in self.headers if name in names and value != b"0"]

    def _end_part(self, reading: _Owed) -> None:
        self._reading = reading
        self._framing_bytes, self._framing_limit_bytes = 0, MAX_HEAD_BYTES
        self._part_ended = True

    def _refuse(self, status: HTTPStatus, text: str, *, retry_after_s: int | None = None) -> None:
        """Answer outside the application and close; only close if another response is being sent."""
        self._closing = True
        if self._answering or not self._connections.linger(self):
            self.transport.close()
            return
        self.transport.write(_plain_answer(status, text, retry_after_s))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._owe((_Owed.NOTHING, self._requests), _LINGER_S, self.transport.abort)

    # Time

    def _watch(self) -> None:
        """Start the time limit of what the client owes, if that has changed."""
        owed = self._owed_now()
        if owed == self._owed:
            return
        what, limits = owed[0], self._limits
        self._connections.set_idle(self, idle=what not in (_Owed.NOTHING, _Owed.BODY))
        match what:
            case _Owed.FIRST_HEAD | _Owed.HEAD:
                self._owe(owed, limits.head_s, self._head_is_late)
            case _Owed.BODY:
                self._owe(owed, limits.body_s, self._body_is_late)
            case _Owed.NEXT_REQUEST:
                self._owe(owed, limits.keep_alive_s, self._close)
            case _:
                self._owe(owed, None, self._close)

    def _owed_now(self) -> tuple[_Owed, int]:
        """What the client owes, and for which request number."""
        if self._reading is _Owed.BODY:
            return _Owed.BODY, self._requests
        if self._answering:
            return _Owed.NOTHING, self._requests
        if self._requests <= 1 and (self._requests == 0 or self._reading is _Owed.HEAD):
            return _Owed.FIRST_HEAD, 0
        return (_Owed.NEXT_REQUEST if self._reading is _Owed.NOTHING else _Owed.HEAD), self._requests

    @property
    def _answering(self) -> bool:
        cycle = cast("RequestResponseCycle | None", self.cycle)
        return cycle is not None and not cycle.response_complete

    def _owe(self, owed: tuple[_Owed, int], limit_s: float | None, then: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._owed = owed
        self._timer = None if limit_s is None else self.loop.call_later(limit_s, then)

    def _head_is_late(self) -> None:
        if self._reading is _Owed.HEAD:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "The request's headers did not arrive in time.")
        else:
            self._close()

    def _body_is_late(self) -> None:
        """Close after an answer that came before the body's end; before it, ``BodyLimit`` answers."""
        if self._answering:
            self._owe(self._owed, self._limits.body_s, self._body_is_late)
        else:
            self._close()

    def _close(self) -> None:
        self._closing = True
        self.transport.close()


def _plain_answer(status: HTTPStatus, text: str, retry_after_s: int | None) -> bytes:
    """Build an error response with the fields of all APIs, because the path may be unknown yet."""
    error = {"message": text, "type": "invalid_request_error", "param": None, "code": None}
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        error["type"] = "server_error"
    body = orjson.dumps({"error": error, "title": status.phrase, "detail": text, "status": status.value})
    head = [f"HTTP/1.1 {status.value} {status.phrase}", "content-type: application/json", "connection: close"]
    head += [f"content-length: {len(body)}", "cache-control: no-store"]
    head += [] if retry_after_s is None else [f"retry-after: {retry_after_s}"]
    return "\r\n".join([*head, "", ""]).encode() + body


def _answering(cycle: RequestResponseCycle, app: ASGIApp, keep_alive_s: int) -> ASGIApp:
    """Wrap *app* to send ``Keep-Alive`` headers, and to not chunk responses to HTTP/1.0 clients."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        old = scope["http_version"] == _OLD_HTTP
        until_closed = False

        async def complete(message: Message) -> None:
            nonlocal until_closed
            if message["type"] == "http.response.start":
                headers = message.get("headers", [])
                if cycle.keep_alive and not any(name.lower() == b"connection" for name, _ in headers):
                    told = [(b"connection", b"keep-alive"), (b"keep-alive", b"timeout=%d" % keep_alive_s)]
                    message = {**message, "headers": [*headers, *told]}
                if old and not any(name.lower() == b"content-length" for name, _ in headers):
                    # Its end is the connection's: uvicorn would chunk it otherwise.
                    cycle.chunked_encoding, cycle.expected_content_length = False, sys.maxsize
                    until_closed = True
            elif until_closed and not message.get("more_body", False):
                cycle.expected_content_length = len(message.get("body", b""))
            await send(message)

        await app(scope, receive, complete)

    return answer
