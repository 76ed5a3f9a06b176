"""The bytes of an event, and what waits for a slow reader."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.api.sse import Inbox, encode, event_json
from corral.core.generation import ChoiceEnded, Delta, Finished, FinishReason, GenerationEvent, Started, Usage

STARTED = Started(prompt_tokens=1, seed=1)
ENDED = ChoiceEnded(choice=0, reason=FinishReason.STOP)
FINISHED = Finished(usage=Usage(prompt_tokens=1, completion_tokens=3))


def _delta(text: str, *tokens: int, choice: int = 0) -> Delta:
    return Delta(
        choice=choice,
        text=text,
        ids=tokens,
        logprobs=tuple(-0.5 * token for token in tokens),
        pieces=tuple(b"%d" % token for token in tokens),
        completion_tokens=tokens[-1],
    )


def test_an_event_has_its_name_and_id_before_its_data() -> None:
    assert encode(b"hi", event="output", event_id="7") == b"event: output\nid: 7\ndata: hi\n\n"


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_each_line_has_its_own_field(end: bytes) -> None:
    assert encode(b" a" + end + end + b"b" + end) == b"data:  a\ndata: \ndata: b\ndata: \n\n"


@given(st.text(alphabet=st.sampled_from("a:\n\r \u2028")))
def test_text_cannot_end_or_start_an_sse_event(text: str) -> None:
    *lines, blank, rest = encode(text.encode()).decode().split("\n")
    assert (blank, rest) == ("", "")
    assert "\n".join(line.removeprefix("data: ") for line in lines) == text.replace("\r\n", "\n").replace("\r", "\n")
    assert all(line.startswith("data: ") for line in lines)


@given(st.text(alphabet=st.sampled_from('a"\\\u0085\u2028\u2029\x0b\x0c\x1c\x1d\x1e\n\ré漢')))
def test_json_of_an_event_is_one_line_for_every_reader(text: str) -> None:
    data = event_json({"text": text}).decode()
    assert data.splitlines() == [data]
    assert json.loads(data) == {"text": text}


@pytest.mark.anyio
async def test_pending_deltas_are_merged_and_other_events_kept() -> None:
    inbox = Inbox()
    events: list[GenerationEvent] = [STARTED, _delta("a", 1), _delta("b", 2), _delta("c", 3), FINISHED]
    for event in events:
        inbox.put(event)
    assert await inbox.take() == [STARTED, _delta("abc", 1, 2, 3), FINISHED]
    inbox.put(_delta("d", 4))
    assert await inbox.take() == [_delta("d", 4)]


@pytest.mark.anyio
async def test_deltas_of_several_choices_are_joined_each_on_its_own_up_to_the_end_of_any() -> None:
    inbox = Inbox()
    for event in [_delta("a", 1), _delta("A", 1, choice=1), _delta("b", 2), ENDED, _delta("B", 2, choice=1)]:
        inbox.put(event)
    assert await inbox.take() == [_delta("ab", 1, 2), _delta("A", 1, choice=1), ENDED, _delta("B", 2, choice=1)]


@pytest.mark.anyio
async def test_closing_wakes_a_reader_with_nothing_new() -> None:
    inbox = Inbox()
    inbox.close(KeyError("x"))
    assert await inbox.take() == []
    assert inbox.closed
    assert isinstance(inbox.error, KeyError)
