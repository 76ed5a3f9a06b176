"""A prediction as server-sent events: from any point on, live or from the log, and cut as ``output`` is.

An event's id is ``<seconds of creation>:<number>-<digest>``. The number is 4 times the log's own number of what was
shown up to there, plus what was told beyond it (see ``Beyond``), and the digest is that of the token ids up to there
(see ``ports.Run.digest``). So an id means the same after a restart, however tokens were joined into events, and a
reader whose text was computed again and differs gets an error instead of a mix of two texts. Ids without a digest are
taken, too.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from corral.api.disconnect import ClientGone, while_connected
from corral.api.doors.replicate.chunks import LEAD, cut
from corral.api.problems import report
from corral.api.sse import PING, encode, event_json, queue_comment
from corral.core.errors import CorralError, ServerStopping
from corral.core.generation import ChoiceEnded, Delta, Finished, GenerationEvent, Queued, Started
from corral.core.prediction import Prediction, Status
from corral.service.ports import Run

LAST_EVENT_ID: Final = "last-event-id"
_ID: Final = re.compile(r"([0-9]{1,15}):([0-9]{1,15})(?:-([0-9a-f]{8}))?\Z")
_STARTED: Final = 1
"""Number of the log's first event, before any text."""
_DIFFERS: Final = (
    "The server computed this prediction again after a restart, and its text differs from what this stream sent "
    "before. Discard that text and read the whole output from the prediction's 'urls.get'."
)
_HEADERS: Final = {
    "cache-control": "no-cache, no-store",
    "x-accel-buffering": "no",
    # A browser's EventSource may read it from any page: the address is the key, and no cookie plays a part.
    "access-control-allow-origin": "*",
    "cross-origin-resource-policy": "cross-origin",
}


class Beyond(IntEnum):
    """What a reader was told beyond the last event of the log that it has seen whole."""

    NOTHING = 0
    ONE_CHARACTER = 1
    """The first of two chunks into which a text was cut; see ``chunks.cut``."""
    ERROR = 2
    DONE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """How far a reader is."""

    number: int = 0
    """Of the last event of the log that it has seen whole."""
    beyond: Beyond = Beyond.NOTHING
    digest: str | None = None
    """Of the token ids up to there; None where the id had none."""


BEGINNING: Final = Position()


def read_position(last_event_id: str | None, *, created_s: int) -> Position:
    """Where to go on; from the beginning where the id is of no stream of this prediction."""
    match = _ID.match(last_event_id or "")
    if match is None or int(match[1]) != created_s:
        return BEGINNING
    number, beyond = divmod(int(match[2]), len(Beyond))
    return Position(number=number, beyond=Beyond(beyond), digest=match[3])


class Words:
    """The events of one reader, sans IO."""

    def __init__(self, *, created_s: int, after: Position, digest: Callable[[int], str | None]) -> None:
        """*after* is where the reader goes on, *digest* that of the token ids up to an event's number."""
        self._created_s = created_s
        self._digest = digest
        self._after = after
        self._number = after.number
        self._nothing_shown = after.number <= _STARTED
        self._owes_a_character = after.beyond is Beyond.ONE_CHARACTER

    def feed(self, number: int, event: GenerationEvent) -> Iterator[bytes]:
        """What an event of the log puts on the wire."""
        match event:
            case Queued():
                yield queue_comment(event)
                return
            case Delta():
                if event.choice == 0:
                    yield from self._output(number, event.text)
            case Started() | ChoiceEnded() | Finished():
                pass
        self._number = number

    def end(self, prediction: Prediction | None) -> Iterator[bytes]:
        """The last events; *prediction* is how it ended, None where it succeeded. Nothing if it goes on elsewhere."""
        reason: dict[str, str] = {}
        if prediction is not None:
            match prediction.status:
                case Status.FAILED:
                    reason = {"reason": "error"}
                    if self._after.beyond is not Beyond.ERROR:
                        detail = {"detail": prediction.error or "The prediction failed."}
                        yield self._event("error", event_json(detail), Beyond.ERROR)
                case Status.CANCELED:
                    reason = {"reason": "canceled"}
                case Status.STARTING | Status.PROCESSING | Status.SUCCEEDED:
                    return
        yield self._event("done", event_json(reason), Beyond.DONE)

    def differs(self) -> bool:
        """Whether the reader was told other tokens up to its position than the log has there now."""
        return self._after.digest is not None and self._digest(self._after.number) != self._after.digest

    def refuse(self) -> Iterator[bytes]:
        """The events for a reader whose text differs. Their ids keep its digest, so that it is told once."""

        def digest(_number: int) -> str | None:
            return self._after.digest

        self._digest = digest
        if self._after.beyond is not Beyond.ERROR:
            yield self._event("error", event_json({"detail": _DIFFERS}), Beyond.ERROR)
        yield self._event("done", event_json({"reason": "error"}), Beyond.DONE)

    def _output(self, number: int, text: str) -> Iterator[bytes]:
        if text and self._nothing_shown:
            text, self._nothing_shown = text.removeprefix(LEAD), False
        if text and self._owes_a_character:
            text, self._owes_a_character = text[1:], False
        *first, last = cut(text) or [""]
        for chunk in first:
            yield self._event("output", chunk.encode(), Beyond.ONE_CHARACTER)
        self._number = number
        if last:
            yield self._event("output", last.encode(), Beyond.NOTHING)

    def _event(self, name: str, data: bytes, beyond: Beyond) -> bytes:
        digest = self._digest(self._number)
        check = "" if digest is None else f"-{digest}"
        return encode(data, event=name, event_id=f"{self._created_s}:{len(Beyond) * self._number + beyond}{check}")


class PredictionStream(Response):
    """The response. Its client's leaving ends it and nothing else; a slow client gets fewer, longer chunks."""

    media_type = "text/event-stream"

    def __init__(
        self, run: Run, *, after: Position, find: Callable[[str], Awaitable[Prediction]], ping_s: float
    ) -> None:
        """Prepare; nothing is read or sent before the response is called.

        Args:
            run: to be read.
            after: from where.
            find: gives the prediction as it is stored, to tell how it ended.
            ping_s: a comment is sent when nothing else was for so long.
        """
        self.status_code = 200
        self.background = None
        self._run = run
        self._after = after
        self._find = find
        self._ping_s = ping_s
        self._sent_s = 0.0
        self.init_headers(_HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - of every response
        """Run to the end, or until the client goes away."""
        try:
            async with while_connected(receive) as tasks:
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                pinging = tasks.create_task(self._ping(send))
                async for body in self._bodies():
                    await self._send(send, body)
                pinging.cancel()
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except ClientGone:
            return

    async def _bodies(self) -> AsyncIterator[bytes]:
        words = Words(created_s=self._run.created_at_ms // 1000, after=self._after, digest=self._run.digest)
        ended: Prediction | None = None
        differs: bool | None = None
        try:
            async for number, event in self._run.events(after=self._after.number):
                if differs is None and number > 0:  # a queue position has no number: the log may not reach *after* yet
                    differs = words.differs()
                if differs:
                    break
                for body in words.feed(number, event):
                    yield body
        except ServerStopping as error:
            # Without an id, so that a reader who comes again goes on where it stopped.
            yield encode(event_json({"detail": str(error)}), event="error")
            return
        except CorralError:
            ended = await self._find(self._run.id)
        except Exception as error:  # noqa: BLE001 - the outermost edge of a stream; its client will come again
            report(error)
            return
        over = ended is None or ended.status.terminal
        for body in words.refuse() if over and words.differs() else words.end(ended):
            yield body

    async def _send(self, send: Send, body: bytes) -> None:
        await send({"type": "http.response.body", "body": body, "more_body": True})
        self._sent_s = asyncio.get_running_loop().time()

    async def _ping(self, send: Send) -> None:
        """One timer for the stream, not one for each token."""
        loop = asyncio.get_running_loop()
        self._sent_s = loop.time()
        while True:
            await asyncio.sleep(self._sent_s + self._ping_s - loop.time())
            if loop.time() - self._sent_s >= self._ping_s:
                await self._send(send, PING)
