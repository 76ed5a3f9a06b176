"""A prediction as server-sent events for the pages that watch it: all that there is, then what comes.

::

    event: begin     {}                                  first on every connection: forget the text, all of it follows
    event: queued    {"position": 2}
    event: started   {"prompt_tokens": 9, "seed": 1}
    event: text      {"choice": 0, "text": "…", "tokens": 12}
    event: end       {}                                  it is settled, however it ended: ask for the rest

A browser that connects again is told everything again, so no event needs a number.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import orjson
from starlette.responses import Response

from corral.api.problems import Problem
from corral.api.site import PING_S
from corral.api.sse import EventStream, Stream, encode
from corral.core.generation import ChoiceEnded, Delta, Finished, GenerationEvent, Queued, Started
from corral.service.ports import Run


class PageStream(Stream):
    """One reader's stream, sans IO; see ``api.sse.Stream``."""

    def __init__(self) -> None:
        self._begun = False

    def feed(self, event: GenerationEvent) -> Iterator[bytes]:
        """What *event* puts on the wire."""
        if not self._begun:
            yield _event("begin", {})
            self._begun = True
        match event:
            case Queued():
                yield _event("queued", {"position": event.position, "recovering": event.recovering})
            case Started():
                yield _event("started", {"prompt_tokens": event.prompt_tokens, "seed": event.seed})
            case Delta():
                yield _event("text", {"choice": event.choice, "text": event.text, "tokens": event.completion_tokens})
            case ChoiceEnded():
                pass
            case Finished():
                yield _event("end", {})

    def fail(self, problem: Problem) -> bytes:  # noqa: ARG002 - how it ended is on its page
        """The end of one that was canceled or failed."""
        return _event("end", {})


class _Over(Problem):
    """What there is to tell of a run that ended before anything came of it: its end."""

    def response(self) -> Response:
        """A whole stream."""
        return Response(_event("begin", {}) + _event("end", {}), media_type=EventStream.media_type)


def watched(run: Run) -> EventStream:
    """The answer to who watches *run*; how it ended is told on its page, and no error of the stream."""
    over = _Over(status=200, body={})
    return EventStream(
        nullcontext(run), lambda _: PageStream(), refuse=lambda _: over, headers=lambda _: {}, ping_s=PING_S
    )


def _event(name: str, data: dict[str, Any]) -> bytes:
    return encode(orjson.dumps(data), event=name)
