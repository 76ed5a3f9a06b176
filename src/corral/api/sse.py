"""Server-sent events: encoding, and the response that streams a run.

Bytes as in https://html.spec.whatwg.org/multipage/server-sent-events.html, section 9.2.5.
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
from corral.service.ports import PredictionEvents

PING = b": ping\n\n"
"""Comment that keeps proxies from closing a silent connection; clients ignore it."""

_ESCAPES = ((b"\xc2\x85", b"\\u0085"), (b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"))
_LINE_END = re.compile(rb"\r\n|\r|\n")


def encode(data: bytes, *, event: str | None = None, event_id: str | None = None) -> bytes:
    """Encode an event. Every line of *data* gets its own ``data:``, so that no text can end the event."""
    head = (f"event: {event}\n" if event else "") + (f"id: {event_id}\n" if event_id else "")
    return head.encode() + b"".join(b"data: %b\n" % line for line in _LINE_END.split(data)) + b"\n"


def event_json(value: object) -> bytes:
    """Encode *value* as JSON with U+0085, U+2028 and U+2029 escaped, where httpx and requests would split lines."""
    data = orjson.dumps(value)
    for character, escape in _ESCAPES:
        data = data.replace(character, escape)
    return data


def comment(text: str) -> bytes:
    """Encode a comment of one line; clients ignore it."""
    return f": {text}\n\n".encode()


def queue_comment(queued: Queued) -> bytes:
    """Encode a comment with the queue position."""
    recovering = "; the engine recovers from a crash" if queued.recovering else ""
    return comment(f"queue position {queued.position}{recovering}")


class EndMissing(Exception):
    """A run's events stopped without ``Finished``; a bug in their source."""


class Stream(Protocol):
    """Encoder of the events of one run."""

    def feed(self, event: GenerationEvent) -> Iterable[bytes]:
        """Encode *event*."""
        ...

    def pause(self) -> Iterable[bytes]:
        """Flush what was held back for the next event, since none is waiting."""
        return ()

    def fail(self, problem: Problem) -> bytes:
        """Encode an error after the first byte."""
        ...


class Inbox:
    """Event buffer for one SSE client; merges deltas when the client is slow."""

    def __init__(self) -> None:
        self.run: PredictionEvents | None = None
        """Set before the first event."""
        self.taken_s = asyncio.get_running_loop().time()
        """Time of the last ``take``."""
        self._waiting: list[GenerationEvent] = []
        self._news = asyncio.Event()
        self.closed = False
        self.error: Exception | None = None

    def put(self, event: GenerationEvent) -> None:
        """Add an event."""
        self._waiting.append(event)
        self._news.set()

    def close(self, error: Exception | None = None) -> None:
        """Mark the end; *error* is the cause if the run did not finish."""
        self.closed = True
        self.error = error
        self._news.set()

    def nudge(self) -> None:
        """Wake ``take`` without an event."""
        self._news.set()

    async def take(self) -> list[GenerationEvent]:
        """Wait for events or the end and return the events with deltas merged; empty after ``close`` or ``nudge``."""
        await self._news.wait()
        self._news.clear()
        self.taken_s = asyncio.get_running_loop().time()
        taken, self._waiting = self._waiting, []
        return taken if len(taken) < 2 else list(_joined(taken))


def _joined(events: list[GenerationEvent]) -> Iterator[GenerationEvent]:
    """Merge consecutive deltas of each choice."""
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
    """Response that streams a run as server-sent events.

    The run's block is entered here, so an error before the first byte still gets its own status. The client's leaving
    cancels the block at once. A slow client never holds up the run: it gets fewer, longer deltas.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        opening: AbstractAsyncContextManager[PredictionEvents],
        stream: Callable[[PredictionEvents], Stream],
        *,
        refuse: Callable[[Exception], Problem],
        headers: Callable[[PredictionEvents], Mapping[str, str]],
        ping_s: float,
    ) -> None:
        """Keep the arguments; nothing is entered or sent before the response is called.

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
        """Send events until the end or until the client disconnects."""
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
        # Held back until the run is settled: a client that has read the end may rely on that.
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
        """Wake the writer after *ping_s* of silence. One timer per stream, not one per token."""
        silent_s = 0.0
        while True:
            await asyncio.sleep(self._ping_s - silent_s)
            silent_s = asyncio.get_running_loop().time() - inbox.taken_s
            if silent_s >= self._ping_s:
                inbox.nudge()
                silent_s = 0.0
