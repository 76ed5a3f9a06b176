"""Server-sent events of a prediction's page."""

from corral.api.problems import Problem
from corral.core.generation import ChoiceEnded, Delta, Finished, FinishReason, Queued, Started, Usage
from corral.web.run_events import Clocks, PageStream


def delta(text: str, tokens: int) -> Delta:
    return Delta(choice=0, text=text, ids=(1,), logprobs=(0.0,), completion_tokens=tokens)


def stream(*, admitted_at_ms: int | None = None) -> PageStream:
    return PageStream(Clocks(now_ms=lambda: 1500, created_at_ms=1000, admitted_at_ms=admitted_at_ms))


def told(stream: PageStream, *events: Queued | Started | Delta | ChoiceEnded | Finished) -> list[bytes]:
    return [chunk for event in events for chunk in stream.feed(event)]


def test_event_stream_starts_with_begin_and_ends_with_end() -> None:
    usage = Usage(prompt_tokens=9, completion_tokens=2)
    events = (
        Queued(position=2), Started(prompt_tokens=9, seed=1), delta("a\nb", 1), delta("", 2),
        ChoiceEnded(choice=0, reason=FinishReason.STOP), Finished(usage=usage),
    )  # fmt: skip
    assert told(stream(), *events) == [
        b'event: begin\ndata: {"age_ms":500}\n\n',
        b'event: queued\ndata: {"position":2,"recovering":false}\n\n',
        b'event: started\ndata: {"prompt_tokens":9,"running_ms":0}\n\n',
        b'event: text\ndata: {"choice":0,"text":"a\\nb","tokens":1}\n\n',
        b'event: text\ndata: {"choice":0,"text":"","tokens":2}\n\n',
        b"event: end\ndata: {}\n\n",
    ]


def test_event_stream_of_a_canceled_run_ends_with_end() -> None:
    canceled = stream()
    assert len(told(canceled, Started(prompt_tokens=9, seed=1))) == 2
    assert canceled.fail(Problem(status=409, body={"detail": "Canceled."})) == b"event: end\ndata: {}\n\n"


def test_late_reader_receives_the_elapsed_engine_time() -> None:
    chunks = told(stream(admitted_at_ms=1100), Started(prompt_tokens=9, seed=1))
    assert chunks[1] == b'event: started\ndata: {"prompt_tokens":9,"running_ms":400}\n\n'
