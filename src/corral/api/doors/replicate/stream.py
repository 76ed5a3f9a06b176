"""Stream a prediction as server-sent events, resumable at any event, with the chunks of ``output``.

An event's id is ``<seconds of creation>:<number>-<digest>``. The number is 4 times the log's own number of what was
shown up to there, plus what was told beyond it (see ``Beyond``), and the digest is that of the token ids up to there
(see ``ports.PredictionEvents.digest``). After a part of the next text it is ``<number>.<characters>``, and the digest
covers the part, too. So an id means the same after a restart, however tokens were joined into events, and a reader
whose text was computed again and differs gets an error instead of a mix of two texts. Ids without a digest are taken,
too.

An event cannot carry a carriage return: it is sent as a line feed, and together with a line feed that follows it as
one. So one at the end of a text is held back until the next character, or the end, is known.
"""

import asyncio
import hashlib
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
from corral.service.ports import PredictionEvents

LAST_EVENT_ID: Final = "last-event-id"
_ID: Final = re.compile(r"([0-9]{1,15}):([0-9]{1,15})(?:\.([0-9]{1,9}))?(?:-([0-9a-f]{8}))?\Z")
_DIGEST_BYTES: Final = 4
_CARRIAGE_RETURN: Final = "\r"
_STARTED: Final = 1
"""Number of the first log event, before any text."""
_DIFFERS: Final = (
    "The server computed this prediction again after a restart, and its text differs from what this stream sent "
    "before. Discard that text and read the whole output from the prediction's 'urls.get'."
)
_HEADERS: Final = {
    "cache-control": "no-cache, no-store",
    "x-accel-buffering": "no",
    # Any page may read it with an EventSource: the URL is signed, and cookies are not used.
    "access-control-allow-origin": "*",
    "cross-origin-resource-policy": "cross-origin",
}


class Beyond(IntEnum):
    """State of a reader after the last log event that it has received whole."""

    NOTHING = 0
    PART = 1
    """It has the first characters of the text that follows; see ``chunks.cut``."""
    ERROR = 2
    DONE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Resume position of a reader."""

    number: int = 0
    """Last log event that it has received whole."""
    beyond: Beyond = Beyond.NOTHING
    characters: int = 0
    """Characters of the text after that event that it has received."""
    digest: str | None = None
    """Digest of the token ids and characters up to there; None if the event id has none."""


BEGINNING: Final = Position()


def read_position(last_event_id: str | None, *, created_s: int) -> Position:
    """Parse ``Last-Event-ID``; the beginning if the id is not of this prediction."""
    match = _ID.match(last_event_id or "")
    if match is None or int(match[1]) != created_s:
        return BEGINNING
    number, beyond = divmod(int(match[2]), len(Beyond))
    characters = int(match[3] or 1) if beyond == Beyond.PART else 0
    return Position(number=number, beyond=Beyond(beyond), characters=characters, digest=match[4])


class Words:
    """Encoder of the events of one reader."""

    def __init__(self, *, created_s: int, after: Position, digest: Callable[[int], str | None]) -> None:
        """*after* is the resume position, *digest* returns the digest of the token ids up to an event number."""
        self._created_s = created_s
        self._digest = digest
        self._after = after
        self._number = after.number
        """Number of the last log event that was fed."""
        self._nothing_shown = after.number <= _STARTED
        self._skipped = ""
        """Text after *after* that the reader has received, as far as it was fed."""
        self._held = ""
        """Carriage return at the end of the text fed so far."""
        self._differs: bool | None = None
        """None until the resume position is reached."""

    def feed(self, number: int, event: GenerationEvent) -> Iterator[bytes]:
        """Encode one log event; no text once the reader ``differs``."""
        match event:
            case Queued():
                yield queue_comment(event)
                return
            case Delta() if event.choice == 0 and not self.differs():
                yield from self._output(number, event.text)
            case Started() | Delta() | ChoiceEnded() | Finished():
                pass
        if number <= _STARTED or not self._nothing_shown:
            self._number = number

    def end(self, prediction: Prediction | None) -> Iterator[bytes]:
        """Encode the last events; *prediction* is its final state, None if it succeeded. Empty if it resumes
        elsewhere.
        """
        reason: dict[str, str] = {}
        if self._held and (prediction is None or prediction.status.terminal):
            self._held = ""
            yield self._event("output", b"\n", Beyond.NOTHING)
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

    def differs(self, *, over: bool = False) -> bool:
        """Whether the reader received another text up to its position than there is now.

        False as long as the text does not reach that far, unless the log is *over*.
        """
        if self._differs is None and (over or len(self._skipped) == self._after.characters):
            now = self._digest_after(self._after.number, self._skipped)
            self._differs = self._after.digest is not None and now != self._after.digest
        return bool(self._differs)

    def refuse(self) -> Iterator[bytes]:
        """Encode the error for a reader whose text differs. Its ids keep the digest, so that it is sent once."""

        def digest(_number: int) -> str | None:
            return self._after.digest

        self._digest, self._number = digest, self._after.number
        if self._after.beyond is not Beyond.ERROR:
            yield self._event("error", event_json({"detail": _DIFFERS}), Beyond.ERROR)
        yield self._event("done", event_json({"reason": "error"}), Beyond.DONE)

    def _output(self, number: int, text: str) -> Iterator[bytes]:
        if text and self._nothing_shown:
            text, self._nothing_shown = text.removeprefix(LEAD), False
        told = text[: self._after.characters - len(self._skipped)]
        self._skipped += told
        rest = self._held + text[len(told) :]
        if self.differs():
            return
        body = rest.removesuffix(_CARRIAGE_RETURN)
        ahead, self._held = len(self._held), rest[len(body) :]
        seen = len(told) - ahead
        *first, last = cut(body) or [""]
        for chunk in first:
            seen += len(chunk)
            yield self._part(chunk, text[:seen])
        if last and self._held:
            yield self._part(last, text[: seen + len(last)])
        elif last:
            self._number = number
            yield self._event("output", last.encode(), Beyond.NOTHING)

    def _part(self, chunk: str, seen: str) -> bytes:
        """Encode a chunk; *seen* is the text sent since the last log event, this chunk included."""
        if not seen:
            return self._event("output", chunk.encode(), Beyond.NOTHING)
        return self._event("output", chunk.encode(), Beyond.PART, seen=seen)

    def _digest_after(self, number: int, seen: str) -> str | None:
        """Digest of the token ids up to a log event and of the text *seen* after it."""
        digest = self._digest(number)
        if digest is None or not seen:
            return digest
        return hashlib.blake2b(f"{digest}{seen}".encode(), digest_size=_DIGEST_BYTES).hexdigest()

    def _event(self, name: str, data: bytes, beyond: Beyond, *, seen: str = "") -> bytes:
        digest = self._digest_after(self._number, seen)
        check = "" if digest is None else f"-{digest}"
        part = f".{len(seen)}" if seen else ""
        number = len(Beyond) * self._number + beyond
        return encode(data, event=name, event_id=f"{self._created_s}:{number}{part}{check}")


class PredictionStream(Response):
    """Response that streams a prediction. A disconnect ends only the response; slow clients get fewer, longer
    chunks.
    """

    media_type = "text/event-stream"

    def __init__(
        self, run: PredictionEvents, *, after: Position, find: Callable[[str], Awaitable[Prediction]], ping_s: float
    ) -> None:
        """Keep the arguments; nothing is read or sent before the response is called.

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
        """Send events until the end or until the client disconnects."""
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
        try:
            async for number, event in self._run.events(after=self._after.number):
                for body in words.feed(number, event):
                    yield body
                if number > 0 and words.differs():  # a queue position has none: the log may not reach *after* yet
                    break
        except ServerStopping as error:
            # Without an id, so that a reader that reconnects resumes where it stopped.
            yield encode(event_json({"detail": str(error)}), event="error")
            return
        except CorralError:
            ended = await self._find(self._run.id)
        except Exception as error:  # noqa: BLE001 - the outermost edge of a stream; its client will come again
            report(error)
            return
        over = ended is None or ended.status.terminal
        for body in words.refuse() if over and words.differs(over=True) else words.end(ended):
            yield body

    async def _send(self, send: Send, body: bytes) -> None:
        await send({"type": "http.response.body", "body": body, "more_body": True})
        self._sent_s = asyncio.get_running_loop().time()

    async def _ping(self, send: Send) -> None:
        """Send pings with one timer per stream, not one per token."""
        loop = asyncio.get_running_loop()
        self._sent_s = loop.time()
        while True:
            await asyncio.sleep(self._sent_s + self._ping_s - loop.time())
            if loop.time() - self._sent_s >= self._ping_s:
                await self._send(send, PING)
