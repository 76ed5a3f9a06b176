"""Server-sent events: their bytes, and the response that turns a run's events into them.

Bytes as in https://html.spec.whatwg.org/multipage/server-sent-events.html, section 9.2.5. Knows no dialect.
"""

import asyncio
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from itertools import chain, groupby
from typing import Protocol

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from corral.api.disconnect import ClientGone, while_connected
from corral.api.problems import Problem
from corral.core.generation import Delta, Finished, GenerationEvent, Queued
from corral.service.ports import Run

PING = b": ping\n\n"
"""A comment: keeps proxies from closing a silent connection, and every client skips it."""

_ESCAPES = ((b"\xc2\x85", b"\\u0085"), (b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"))
_LINE_END = re.compile(rb"\r\n|\r|\n")


def encode(data: bytes, *, event: str | None = None, event_id: str | None = None) -> bytes:
    """One event. Every line of *data* gets its own ``data:``, so no text can end an event or begin another."""
    head = (f"event: {event}\n" if event else "") + (f"id: {event_id}\n" if event_id else "")
    return head.encode() + b"".join(b"data: %b\n" % line for line in _LINE_END.split(data)) + b"\n"


def event_json(value: object) -> bytes:
    """*value* as JSON for an event, with U+0085, U+2028 and U+2029 escaped: readers of httpx and requests cut there."""
    data = orjson.dumps(value)
    for character, escape in _ESCAPES:
        data = data.replace(character, escape)
    return data


def comment(text: str) -> bytes:
    """A line of *text*, which has no line ends, that every client skips."""
    return f": {text}\n\n".encode()


def queue_comment(queued: Queued) -> bytes:
    """A comment with the place in the queue, and whether the engine recovers."""
    recovering = "; the engine recovers from a crash" if queued.recovering else ""
    return comment(f"queue position {queued.position}{recovering}")


class EndMissing(Exception):
    """A run's events stopped without ``Finished``, which is a bug in their source."""


class Stream(Protocol):
    """A dialect's stream, sans IO."""

    def feed(self, event: GenerationEvent) -> Iterable[bytes]:
        """What *event* puts on the wire."""
        ...

    def pause(self) -> Iterable[bytes]:
        """What was kept to go with a next event, now that none waits. A dialect that keeps nothing has nothing."""
        return ()

    def fail(self, problem: Problem) -> bytes:
        """What an error after the first byte puts on the wire."""
        ...


class Inbox:
    """Events between a run and a reader of any speed; holds at most one answer."""

    def __init__(self) -> None:
        self.run: Run | None = None
        """Set before the first event."""
        self.taken_s = asyncio.get_running_loop().time()
        """When something was taken last."""
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

    def nudge(self) -> None:
        """Have ``take`` return though nothing came."""
        self._news.set()

    async def take(self) -> list[GenerationEvent]:
        """Wait for news; return what came, deltas joined; nothing when only ``closed`` is new, or when nudged."""
        await self._news.wait()
        self._news.clear()
        self.taken_s = asyncio.get_running_loop().time()
        taken, self._waiting = self._waiting, []
        return taken if len(taken) < 2 else list(_joined(taken))


def _joined(events: list[GenerationEvent]) -> Iterator[GenerationEvent]:
    """Deltas of one choice as one, wherever only deltas lie between them."""
    for kind, group in groupby(events, key=type):
        if kind is Delta:
            by_choice: dict[int, list[Delta]] = {}
            for delta in (event for event in group if isinstance(event, Delta)):
                by_choice.setdefault(delta.choice, []).append(delta)
            yield from map(_join, by_choice.values())
        else:
            yield from group


def _join(deltas: list[Delta]) -> Delta:
    if len(deltas) == 1:
        return deltas[0]
    return Delta(
        choice=deltas[0].choice,
        text="".join(delta.text for delta in deltas),
        ids=tuple(chain.from_iterable(delta.ids for delta in deltas)),
        logprobs=tuple(chain.from_iterable(delta.logprobs for delta in deltas)),
        pieces=tuple(chain.from_iterable(delta.pieces for delta in deltas)),
        completion_tokens=deltas[-1].completion_tokens,
    )


class EventStream(Response):
    """A run as server-sent events.

    The run's block is entered here, so an error before the first byte still gets its own status. The client's leaving
    cancels the block at once. A slow client never holds up the run: it gets fewer, longer deltas.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        opening: AbstractAsyncContextManager[Run],
        stream: Callable[[Run], Stream],
        *,
        refuse: Callable[[Exception], Problem],
        headers: Callable[[Run], Mapping[str, str]],
        ping_s: float,
    ) -> None:
        """Prepare; nothing is entered or sent before the response is called.

        Args:
            opening: the block to enter.
            stream: the dialect, for the run that was entered.
            refuse: words any error.
            headers: beside those of every event stream.
            ping_s: a comment is sent when nothing else was for so long.
        """
        self.status_code = 200
        self.background = None
        self._opening = opening
        self._stream = stream
        self._refuse = refuse
        self._headers = headers
        self._ping_s = ping_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run to the end, or until the client goes away."""
        inbox = Inbox()
        try:
            async with while_connected(receive) as tasks:
                tasks.create_task(self._read(inbox))
                pinging = tasks.create_task(self._ping(inbox))
                await self._write(inbox, scope, receive, send)
                pinging.cancel()
        except ClientGone:
            return

    async def _read(self, inbox: Inbox) -> None:
        finished: Finished | None = None
        try:
            async with self._opening as run:
                inbox.run = run
                async for _, event in run.events():
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
        events = await inbox.take()
        while inbox.run is None and not inbox.closed:
            events = await inbox.take()
        if inbox.run is None or inbox.error is not None:
            return await self._refuse(inbox.error or EndMissing()).response()(scope, receive, send)
        stream = self._stream(inbox.run)
        self.init_headers({"cache-control": "no-cache", "x-accel-buffering": "no", **self._headers(inbox.run)})
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        while True:
            more = not inbox.closed
            body = b"".join([chunk for event in events for chunk in stream.feed(event)])
            body += b"".join(stream.pause())
            if not events and more:
                body = PING
            if not more and inbox.error is not None:
                body += stream.fail(self._refuse(inbox.error))
            if body or not more:
                await send({"type": "http.response.body", "body": body, "more_body": more})
            if not more:
                return None
            events = await inbox.take()

    async def _ping(self, inbox: Inbox) -> None:
        """Nudge the writer whenever it had nothing for so long. One timer for the stream, not one for each token."""
        silent_s = 0.0
        while True:
            await asyncio.sleep(self._ping_s - silent_s)
            silent_s = asyncio.get_running_loop().time() - inbox.taken_s
            if silent_s >= self._ping_s:
                inbox.nudge()
                silent_s = 0.0
