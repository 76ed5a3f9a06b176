"""A whole answer is a fold over the stream."""

from collections.abc import AsyncIterator

import pytest

from corral.core.generation import Delta, Finished, FinishReason, GenerationEvent, Started, Usage, collect

pytestmark = pytest.mark.anyio

USAGE = Usage(prompt_tokens=3, completion_tokens=2)


async def stream(*events: GenerationEvent) -> AsyncIterator[GenerationEvent]:
    for event in events:
        yield event


async def test_a_stream_folds_into_its_text_reason_usage_and_seed() -> None:
    result = await collect(
        stream(
            Started(prompt_tokens=3, seed=7),
            Delta(text="a", completion_tokens=1),
            Delta(text="b", completion_tokens=2),
            Finished(reason=FinishReason.LENGTH, usage=USAGE),
        )
    )
    assert (result.text, result.reason, result.usage, result.seed) == ("ab", FinishReason.LENGTH, USAGE, 7)
    assert result.usage.total_tokens == 5


async def test_a_stream_without_an_end_is_a_bug_and_says_so() -> None:
    with pytest.raises(RuntimeError):
        await collect(stream(Started(prompt_tokens=3, seed=7), Delta(text="a", completion_tokens=1)))


async def test_a_stream_without_a_beginning_is_a_bug_and_says_so() -> None:
    with pytest.raises(RuntimeError):
        await collect(stream(Finished(reason=FinishReason.STOP, usage=USAGE)))
