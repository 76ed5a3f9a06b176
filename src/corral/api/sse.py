"""Server-sent events: their bytes, and the response that turns a run's events into them.

Bytes as in https://html.spec.whatwg.org/multipage/server-sent-events.html, section 9.2.5. Knows no dialect.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from itertools import groupby
from typing import Protocol

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from corral.api.disconnect import ClientGone, while_connected
from corral.api.problems import Problem
from corral.core.generation import Delta, Finished, GenerationEvent

PING = b": ping\n\n"
"""A comment: keeps proxies from closing a silent connection, and every client skips it."""

_LINE_END = re.compile(rb"\r\n|\r|\n")


def encode(data: bytes, *, event: str | None = None, event_id: str | None = None) -> bytes:
    """One event. Every line of *data* gets its own ``data:``, so no text can end an event or begin another."""
    head = (f"event: {event}\n" if event else "") + (f"id: {event_id}\n" if event_id else "")
    return head.encode() + b"".join(b"data: %b\n" % line for line in _LINE_END.split(data)) + b"\n"


class EndMissing(Exception):
    """A run's events stopped without ``Finished``, which is a bug in their source."""


class Stream(Protocol):
    """A dialect's stream, sans IO."""

    def feed(self, event: GenerationEvent) -> Iterable[bytes]:
        """What *event* puts on the wire."""
        ...

    def fail(self, problem: Problem) -> bytes:
        """What an error after the first byte puts on the wire."""
        ...


class Inbox:
    """Events between a run and a reader of any speed; holds at most one answer."""

    def __init__(self) -> None:
        self._waiting: list[GenerationEvent] = []
        self._news = asyncio.Event()
        self.closed = False
        self.error: Exception | None = None

    def put(self, event: GenerationEvent) -> None:
        """Add an event."""
        self._waiting.append(event)
        self._news.set()

    def close(self, error: Exception | None = None) -> None:
        """No event will follow; *error* is why, when it is not the end."""
        self.closed = True
        self.error = error
        self._news.set()

    async def take(self) -> list[GenerationEvent]:
        """Wait for news; return what came, deltas joined, which is nothing when only ``closed`` is new."""
        await self._news.wait()
        self._news.clear()
        taken, self._waiting = self._waiting, []
        return taken if len(taken) < 2 else list(_joined(taken))


def _joined(events: list[GenerationEvent]) -> Iterator[GenerationEvent]:
    for kind, group in groupby(events, key=type):
        if kind is Delta:
            deltas = [event for event in group if isinstance(event, Delta)]
            text = "".join(delta.text for delta in deltas)
            yield Delta(text=text, completion_tokens=deltas[-1].completion_tokens)
        else:
            yield from group


class EventStream(Response):
    """A run as server-sent events.

    The run's block is entered here, so an error before the first byte still gets its own status. The client's leaving
    cancels the block at once. A slow client never holds up the run: it gets fewer, longer deltas.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        run: AbstractAsyncContextManager[AsyncIterator[GenerationEvent]],
        stream: Stream,
        *,
        refuse: Callable[[Exception], Problem],
        headers: Mapping[str, str],
        ping_s: float,
    ) -> None:
        """Prepare; nothing is entered or sent before the response is called.

        Args:
            run: the block to enter.
            stream: the dialect.
            refuse: words any error.
            headers: beside those of every event stream.
            ping_s: a comment is sent when nothing else was for so long.
        """
        self.status_code = 200
        self.background = None
        self.init_headers({"cache-control": "no-cache", "x-accel-buffering": "no", **headers})
        self._run = run
        self._stream = stream
        self._refuse = refuse
        self._ping_s = ping_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run to the end, or until the client goes away."""
        inbox = Inbox()
        try:
            async with while_connected(receive) as tasks:
                tasks.create_task(self._read(inbox))
                await self._write(inbox, scope, receive, send)
        except ClientGone:
            return

    async def _read(self, inbox: Inbox) -> None:
        finished: Finished | None = None
        try:
            async with self._run as events:
                async for event in events:
                    if isinstance(event, Finished):
                        finished = event
                    else:
                        inbox.put(event)
        except Exception as error:  # noqa: BLE001 - the outermost edge of a stream
            inbox.close(error)
            return
        # Held back until here: a client that has read the end may rely on the run's being over.
        if finished is not None:
            inbox.put(finished)
        inbox.close(None if finished is not None else EndMissing())

    async def _write(self, inbox: Inbox, scope: Scope, receive: Receive, send: Send) -> None:
        started = False
        more = True
        while more:
            body = await self._next(inbox)
            more = body is PING or not inbox.closed
            if not more and inbox.error is not None:
                problem = self._refuse(inbox.error)
                if not started:
                    return await problem.response()(scope, receive, send)
                body += self._stream.fail(problem)
            if not started and (body or not more):
                started = True
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if body or not more:
                await send({"type": "http.response.body", "body": body, "more_body": more})
        return None

    async def _next(self, inbox: Inbox) -> bytes:
        """The bytes of what came since the last call; PING itself when nothing did for so long."""
        try:
            async with asyncio.timeout(self._ping_s):
                events = await inbox.take()
        except TimeoutError:
            return PING
        return b"".join(chunk for event in events for chunk in self._stream.feed(event))
