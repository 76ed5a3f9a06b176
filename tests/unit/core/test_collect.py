"""Collecting a whole answer from the stream."""

from collections.abc import AsyncIterator

import pytest

from corral.core.generation import (
    ChoiceEnded,
    Delta,
    Finished,
    FinishReason,
    GenerationEvent,
    Queued,
    Started,
    Usage,
    collect,
)

pytestmark = pytest.mark.anyio

USAGE = Usage(prompt_tokens=3, completion_tokens=3)


async def stream(*events: GenerationEvent) -> AsyncIterator[GenerationEvent]:
    for event in events:
        yield event


def delta(choice: int, text: str, token_id: int) -> Delta:
    return Delta(choice=choice, text=text, ids=(token_id,), logprobs=(-0.5,), completion_tokens=1)


async def test_a_stream_folds_into_its_choices_usage_and_seed() -> None:
    result = await collect(
        stream(
            Queued(position=1),
            Started(prompt_tokens=3, seed=7),
            delta(1, "x", 5),
            delta(0, "a", 6),
            ChoiceEnded(choice=1, reason=FinishReason.STOP, stop="END"),
            delta(0, "b", 7),
            ChoiceEnded(choice=0, reason=FinishReason.LENGTH),
            Finished(usage=USAGE),
        )
    )
    assert [(c.text, c.reason, c.stop, c.ids) for c in result.choices] == [
        ("ab", FinishReason.LENGTH, None, (6, 7)),
        ("x", FinishReason.STOP, "END", (5,)),
    ]
    assert (result.usage, result.seed, result.echo) == (USAGE, 7, None)
    assert result.usage.total_tokens == 6


async def test_a_stream_without_an_end_is_a_bug_and_says_so() -> None:
    with pytest.raises(RuntimeError):
        await collect(stream(Started(prompt_tokens=3, seed=7), delta(0, "a", 5)))


async def test_a_stream_without_a_beginning_is_a_bug_and_says_so() -> None:
    with pytest.raises(RuntimeError):
        await collect(stream(Finished(usage=USAGE)))
