"""The log of a run: numbers, digests, and readers that resume."""

import asyncio

import pytest

from corral.core.generation import ChoiceEnded, Delta, FinishReason, GenerationEvent, Started
from corral.service.runs.codec import decode_events, encode_events
from corral.service.runs.log import RunLog, join

pytestmark = pytest.mark.anyio


def delta(number: int, *, choice: int = 0, token_id: int | None = None) -> Delta:
    """The delta of one token."""
    token_id = 100 + number if token_id is None else token_id
    return Delta(choice=choice, text=f"<{number}>", ids=(token_id,), logprobs=(-1.0,), completion_tokens=number)


def log_of(*events: GenerationEvent) -> RunLog:
    log = RunLog()
    log.append([Started(prompt_tokens=1, seed=1)])
    log.append(events)
    return log


async def texts(log: RunLog, *, after: int) -> list[tuple[int, str]]:
    log.close()
    return [(number, event.text) async for number, event in log.read(after=after) if isinstance(event, Delta)]


async def test_reader_beyond_the_end_waits_until_the_log_is_longer() -> None:
    log = log_of(*map(delta, range(1, 5)))  # as stored by a server that was killed
    reader = log.read(after=8)
    waiting = asyncio.ensure_future(anext(reader))
    await asyncio.sleep(0)
    log.append(map(delta, range(5, 7)))
    await asyncio.sleep(0)
    assert not waiting.done()
    log.append(map(delta, range(7, 12)))
    number, event = await waiting
    assert (number, isinstance(event, Delta) and event.text) == (12, "<8><9><10><11>")


async def test_reading_from_within_a_merged_delta_splits_it_at_the_token() -> None:
    joined = join(list(map(delta, range(1, 6))))
    log = log_of(joined)
    assert len(log) == 6
    assert await texts(log, after=0) == [(6, "<1><2><3><4><5>")]
    log.close()
    rest = [event async for _, event in log.read(after=3) if isinstance(event, Delta)]
    assert [(event.ids, event.completion_tokens) for event in rest] == [((103, 104, 105), 5)]


async def test_digests_depend_on_the_tokens_and_not_on_how_they_are_merged() -> None:
    end = ChoiceEnded(choice=0, reason=FinishReason.STOP)
    events = [delta(1), delta(1, choice=1), delta(2), end, delta(2, choice=1)]
    live = log_of(*events)
    asked_early = [live.digest(number) for number in range(len(live) + 1)]
    one_by_one = RunLog()
    for event in [Started(prompt_tokens=1, seed=1), *events]:
        one_by_one.append([event])
        assert one_by_one.digest(len(one_by_one)) == asked_early[len(one_by_one)]
    stored = RunLog()
    stored.append(decode_events(encode_events([Started(prompt_tokens=1, seed=1), *events])))
    assert [stored.digest(number) for number in range(len(live) + 1)] == asked_early
    for changed in (delta(1, token_id=7), delta(1, choice=1, token_id=101)):
        assert log_of(changed, *events[1:]).digest(3) != asked_early[3]
    assert log_of(join([delta(1), delta(2)])).digest(3) == log_of(delta(1), delta(2)).digest(3)
    assert live.digest(len(live) + 1) is None
