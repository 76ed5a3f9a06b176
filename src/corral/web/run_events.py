"""Stream a prediction to pages as server-sent events: all text so far, then live.

::

    event: begin     {"age_ms": 40}                      first on every connection: forget the text, all of it follows
    event: queued    {"position": 2}
    event: started   {"prompt_tokens": 9, "running_ms": 7}
    event: text      {"choice": 0, "text": "…", "tokens": 12}
    event: end       {}                                  it is settled, however it ended: ask for the rest

A browser that connects again is told everything again, so no event needs a number.
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from corral.api.dependencies import PING_S
from corral.api.problems import Problem
from corral.api.sse import EventStream, Stream, encode, event_json
from corral.core.generation import ChoiceEnded, Delta, Finished, GenerationEvent, Queued, Started
from corral.service.ports import PredictionEvents


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocks:
    """Elapsed times of a run, so that pages that join late show the same as others."""

    now_ms: Callable[[], int]
    created_at_ms: int
    admitted_at_ms: int | None
    """When the engine admitted the run; None if it had not when the page connected."""

    def age_ms(self) -> int:
        """Milliseconds since creation."""
        return max(0, self.now_ms() - self.created_at_ms)

    def running_ms(self) -> int:
        """Milliseconds since admission by the engine; 0 if it was just admitted."""
        return 0 if self.admitted_at_ms is None else max(0, self.now_ms() - self.admitted_at_ms)


class PageStream(Stream):
    """Encoder of one page's stream; see ``api.sse.Stream``."""

    def __init__(self, clocks: "Clocks") -> None:
        """*clocks* are the elapsed times of the run."""
        self._clocks = clocks
        self._begun = False

    def feed(self, event: GenerationEvent) -> Iterator[bytes]:
        """Encode *event*."""
        if not self._begun:
            yield _event("begin", {"age_ms": self._clocks.age_ms()})
            self._begun = True
        match event:
            case Queued():
                yield _event("queued", {"position": event.position, "recovering": event.recovering})
            case Started():
                yield _event("started", {"prompt_tokens": event.prompt_tokens, "running_ms": self._clocks.running_ms()})
            case Delta():
                yield _event("text", {"choice": event.choice, "text": event.text, "tokens": event.completion_tokens})
            case ChoiceEnded():
                pass
            case Finished():
                yield _event("end", {})

    def fail(self, problem: Problem) -> bytes:  # noqa: ARG002 - how it ended is on its page
        """Encode the end of a canceled or failed run."""
        return _event("end", {})


class _Over(Problem):
    """Stream of a run that ended without any event."""

    def response(self) -> Response:
        """Build the whole stream."""
        return Response(_event("begin", {"age_ms": 0}) + _event("end", {}), media_type=EventStream.media_type)


def watched(run: PredictionEvents, clocks: Clocks) -> EventStream:
    """Build the response that streams *run*; errors of the run are shown by its page."""
    over = _Over(status=200, body={})
    return EventStream(
        nullcontext(run), lambda _: PageStream(clocks), refuse=lambda _: over, headers=lambda _: {}, ping_s=PING_S
    )


def _event(name: str, data: dict[str, Any]) -> bytes:
    return encode(event_json(data), event=name)
