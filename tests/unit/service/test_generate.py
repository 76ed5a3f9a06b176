"""The path of an answer, on the scripted engine in its real worker process and a tokenizer of bytes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from corral.catalog.catalog import demo_catalog
from corral.core.errors import CorralError, EngineUnavailable, InvalidRequest, PromptTooLong, UnknownModel
from corral.core.generation import (
    ChatPrompt,
    Delta,
    Finished,
    FinishReason,
    GenerationRequest,
    GenerationResult,
    Message,
    RawPrompt,
    Role,
    Sampling,
    Started,
    Stopping,
    collect,
)
from corral.service.generate import GenerationService
from tests.engines import scripted_engine, until_idle

pytestmark = pytest.mark.anyio

FIRST_BYTE_ID = 3


class ByteTokenizer:
    """One token per byte, after ``<unk>``, ``<s>`` and ``</s>``."""

    vocab_size = FIRST_BYTE_ID + 256
    bos_token_id = 1
    eos_token_id = 2

    def encode(self, text: str) -> list[int]:
        return [FIRST_BYTE_ID + byte for byte in text.encode()]

    def piece_bytes(self, token_id: int) -> bytes:
        return bytes([token_id - FIRST_BYTE_ID]) if token_id >= FIRST_BYTE_ID else b""


HELLO = GenerationRequest(
    model="corral/demo",
    prompt=ChatPrompt((Message(role=Role.USER, content="Hi"),)),
    sampling=Sampling(temperature=0),
)


@asynccontextmanager
async def service(says: str, **options: Any) -> AsyncIterator[GenerationService]:
    answer = tuple(ByteTokenizer().encode(says))
    engine = scripted_engine(vocab_size=ByteTokenizer.vocab_size, answer=answer, **options)
    async with engine.run():
        await engine.ready()
        made = GenerationService(
            catalog=demo_catalog(), engine=engine, tokenizer=ByteTokenizer(), draw_seed=lambda: 4711
        )
        assert made.ready
        yield made
        await until_idle(engine)
        assert engine.stats().restarts == 0


async def answer(made: GenerationService, request: GenerationRequest) -> GenerationResult:
    async with made.open(request) as events:
        return await collect(events)


async def test_an_answer_counts_its_prompt_and_every_token_of_the_engine() -> None:
    async with service("Hello, llama! 🦙") as made:
        result = await answer(made, HELLO)
        assert result.text == "Hello, llama! 🦙"
        assert result.reason is FinishReason.STOP
        assert result.usage.prompt_tokens == 1 + len("[INST] Hi [/INST]")
        assert result.usage.completion_tokens == len("Hello, llama! 🦙".encode()) + 1  # and EOS
        assert result.seed == 4711


async def test_events_are_started_then_whole_characters_then_finished() -> None:
    async with service("añ🦙b", step_s=0.005) as made, made.open(HELLO) as events:
        seen = [event async for event in events]
        assert isinstance(seen[0], Started)
        assert isinstance(seen[-1], Finished)
        deltas = [event for event in seen[1:-1] if isinstance(event, Delta)]
        assert [delta.text for delta in deltas] == ["a", "ñ", "🦙", "b"]
        assert [delta.completion_tokens for delta in deltas] == [1, 3, 7, 8]


async def test_a_stop_string_ends_the_text_before_it_and_the_count_after_it() -> None:
    async with service("one two three four") as made:
        result = await answer(made, replace(HELLO, stopping=Stopping(stop=("three", "four"))))
        assert result.text == "one two "
        assert result.reason is FinishReason.STOP
        assert result.usage.completion_tokens == len("one two three")


async def test_text_held_back_for_a_stop_string_is_released_at_the_end() -> None:
    async with service("almost END") as made:
        result = await answer(made, replace(HELLO, stopping=Stopping(stop=("END!",))))
        assert result.text == "almost END"


async def test_a_character_cut_by_the_limit_is_shown_as_a_replacement() -> None:
    async with service("a🦙") as made:
        result = await answer(made, replace(HELLO, stopping=Stopping(max_tokens=3)))
        assert (result.text, result.reason) == ("a\ufffd", FinishReason.LENGTH)
        assert result.usage.completion_tokens == 3


async def test_max_tokens_beyond_the_context_is_what_is_left_of_it() -> None:
    async with service("x" * 100, context_tokens=64) as made:
        result = await answer(made, replace(HELLO, stopping=Stopping(max_tokens=1_000_000)))
        assert result.usage.total_tokens == 64
        assert result.reason is FinishReason.LENGTH


async def test_a_prompt_that_fills_the_context_is_refused_with_both_counts() -> None:
    async with service("x", context_tokens=64) as made:
        with pytest.raises(PromptTooLong, match=r"has 118 tokens.* holds 64"):
            await answer(made, replace(HELLO, prompt=ChatPrompt((Message(role=Role.USER, content="y" * 102),))))


async def test_a_raw_prompt_is_sent_without_a_template() -> None:
    async with service("x") as made:
        result = await answer(made, replace(HELLO, prompt=RawPrompt("<s>Hello")))
        assert result.usage.prompt_tokens == 1 + len("Hello")


async def test_any_integer_is_a_seed() -> None:
    async with service("x") as made:
        assert (await answer(made, replace(HELLO, seed=-1))).seed == 2**64 - 1
        assert (await answer(made, replace(HELLO, seed=2**64 + 5))).seed == 5


@pytest.mark.parametrize(
    ("change", "error", "param"),
    [
        ({"model": "gpt-4"}, UnknownModel, None),
        ({"sampling": Sampling(top_p=0)}, InvalidRequest, "top_p"),
        ({"stopping": Stopping(max_tokens=0)}, InvalidRequest, "max_tokens"),
        ({"stopping": Stopping(stop=("",))}, InvalidRequest, "stop"),
        ({"prompt": ChatPrompt(())}, InvalidRequest, "messages"),
    ],
)
async def test_what_the_caller_can_mend_is_raised_on_entering(
    change: dict[str, Any], error: type[CorralError], param: str | None
) -> None:
    async with service("x") as made:
        with pytest.raises(error) as caught:
            async with made.open(replace(HELLO, **change)):
                pytest.fail("entered")
        assert getattr(caught.value, "param", None) == param


async def test_leaving_after_the_first_delta_frees_the_engine() -> None:
    async with service("x" * 1000, step_s=0.002) as made, made.open(HELLO) as events:
        async for event in events:
            if isinstance(event, Delta):
                break


async def test_a_service_whose_engine_loads_is_not_ready_and_says_so() -> None:
    engine = scripted_engine(load_s=60)
    made = GenerationService(catalog=demo_catalog(), engine=engine, tokenizer=ByteTokenizer(), draw_seed=lambda: 0)
    async with engine.run():
        assert not made.ready
        with pytest.raises(EngineUnavailable):
            await answer(made, HELLO)
