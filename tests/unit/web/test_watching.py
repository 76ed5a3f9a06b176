"""What a page that watches a prediction is told, byte by byte."""

from corral.api.problems import Problem
from corral.core.generation import ChoiceEnded, Delta, Finished, FinishReason, Queued, Started, Usage
from corral.web.watching import PageStream


def delta(text: str, tokens: int) -> Delta:
    return Delta(choice=0, text=text, ids=(1,), logprobs=(0.0,), completion_tokens=tokens)


def told(stream: PageStream, *events: Queued | Started | Delta | ChoiceEnded | Finished) -> list[bytes]:
    return [chunk for event in events for chunk in stream.feed(event)]


def test_everything_begins_with_begin_and_ends_with_end() -> None:
    usage = Usage(prompt_tokens=9, completion_tokens=2)
    events = (
        Queued(position=2), Started(prompt_tokens=9, seed=1), delta("a\nb", 1), delta("", 2),
        ChoiceEnded(choice=0, reason=FinishReason.STOP), Finished(usage=usage),
    )  # fmt: skip
    assert told(PageStream(), *events) == [
        b"event: begin\ndata: {}\n\n",
        b'event: queued\ndata: {"position":2}\n\n',
        b'event: started\ndata: {"prompt_tokens":9,"seed":1}\n\n',
        b'event: text\ndata: {"choice":0,"text":"a\\nb","tokens":1}\n\n',
        b'event: text\ndata: {"choice":0,"text":"","tokens":2}\n\n',
        b"event: end\ndata: {}\n\n",
    ]


def test_one_that_was_canceled_ends_as_well() -> None:
    stream = PageStream()
    assert len(told(stream, Started(prompt_tokens=9, seed=1))) == 2
    assert stream.fail(Problem(status=409, body={"detail": "Canceled."})) == b"event: end\ndata: {}\n\n"
