"""Answers: text, token counts, stop strings, choices, and their bill."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from corral.core.errors import CorralError, InvalidRequest, PromptTooLong, UnknownModel
from corral.core.generation import (
    ChatPrompt,
    ChoiceEnded,
    Delta,
    Finished,
    FinishReason,
    Message,
    Queued,
    RawPrompt,
    Role,
    Sampling,
    Started,
    Stopping,
)
from corral.core.prediction import Status, StoppedBy
from corral.core.pricing import tokens_digest
from tests.engines import DEADLINE_S, scripted_engine
from tests.unit.service.harness import HELLO, HELLO_TOKENS, PRICE, SEED, limited, open_account, open_harness, serving

pytestmark = pytest.mark.anyio

HELLO_ONLY = HELLO.prompt


async def test_answer_is_billed_for_its_prompt_and_every_generated_token(database: Path) -> None:
    async with open_harness(database, "Hello, llama! 🦙") as harness:
        result = await harness.answer()
        (choice,) = result.choices
        assert choice.text == "Hello, llama! 🦙"
        assert choice.reason is FinishReason.STOP
        assert result.usage.prompt_tokens == HELLO_TOKENS
        assert result.usage.completion_tokens == len("Hello, llama! 🦙".encode()) + 1  # and EOS
        assert result.seed == SEED
        stored = await harness.newest()
        assert (stored.status, stored.stopped_by) == (Status.SUCCEEDED, StoppedBy.MODEL)
        assert stored.texts == ["Hello, llama! 🦙"]
        assert stored.cost_nusd == HELLO_TOKENS * PRICE.input_nusd + len(choice.ids) * PRICE.output_nusd
        assert stored.receipt is not None
        assert stored.receipt["tokens_digest"] == tokens_digest([choice.ids])
        assert stored.started_at_ms is not None
        assert stored.completed_at_ms is not None
        assert stored.created_at_ms <= stored.started_at_ms <= stored.completed_at_ms


async def test_events_are_started_then_whole_characters_then_finished(database: Path) -> None:
    async with open_harness(database, "añ🦙b", step_s=0.005) as harness, harness.service.open(harness.ask()) as run:
        seen = [event async for _, event in run.events()]
        assert isinstance(seen[0], Started)
        assert isinstance(seen[-2], ChoiceEnded)
        assert isinstance(seen[-1], Finished)
        deltas = [event for event in seen if isinstance(event, Delta)]
        assert [delta.text for delta in deltas if delta.text] == ["a", "ñ", "🦙", "b"]
        assert deltas[-1].completion_tokens == 9


async def test_stop_string_is_billed_but_not_part_of_the_text(database: Path) -> None:
    async with open_harness(database, "one two three four") as harness:
        result = await harness.answer(replace(HELLO, stopping=Stopping(stop=("three", "four"))))
        (choice,) = result.choices
        assert (choice.text, choice.reason, choice.stop) == ("one two ", FinishReason.STOP, "three")
        assert result.usage.completion_tokens == len("one two three")
        stored = await harness.newest()
        assert stored.completion_tokens == len("one two three")
        assert stored.stopped_by is StoppedBy.STOP_STRING


async def test_text_held_back_for_a_stop_string_is_released_at_the_end(database: Path) -> None:
    async with open_harness(database, "almost END") as harness:
        result = await harness.answer(replace(HELLO, stopping=Stopping(stop=("END!",))))
        assert result.choices[0].text == "almost END"


async def test_character_cut_by_max_tokens_becomes_a_replacement_character(database: Path) -> None:
    async with open_harness(database, "a🦙") as harness:
        result = await harness.answer(limited(3))
        assert (result.choices[0].text, result.choices[0].reason) == ("a\ufffd", FinishReason.LENGTH)
        assert result.usage.completion_tokens == 3
        assert (await harness.newest()).stopped_by is StoppedBy.LIMIT


async def test_max_tokens_is_clamped_to_the_rest_of_the_context(database: Path) -> None:
    async with open_harness(database, "x" * 100, context_tokens=64) as harness:
        result = await harness.answer(limited(1_000_000))
        assert result.usage.total_tokens == 64
        assert result.choices[0].reason is FinishReason.LENGTH


async def test_prompt_that_fills_the_context_is_rejected_with_both_counts(database: Path) -> None:
    async with open_harness(database, "x", context_tokens=64) as harness:
        with pytest.raises(PromptTooLong, match=r"has at least 118 tokens.* holds 64"):
            await harness.answer(replace(HELLO, prompt=ChatPrompt((Message(role=Role.USER, content="y" * 102),))))


async def test_raw_prompt_is_encoded_without_a_template(database: Path) -> None:
    async with open_harness(database, "x") as harness:
        result = await harness.answer(replace(HELLO, prompt=RawPrompt("<s>Hello")))
        assert result.usage.prompt_tokens == 1 + len("Hello")


async def test_any_integer_is_accepted_as_seed_and_the_used_value_is_stored(database: Path) -> None:
    async with open_harness(database, "x") as harness:
        for seed, used in ((-1, 2**64 - 1), (2**64 + 5, 5), (None, SEED)):
            assert (await harness.answer(replace(HELLO, seed=seed))).seed == used
            assert (await harness.newest()).seed == used


@pytest.mark.parametrize(
    ("change", "error", "param"),
    [
        ({"model": "gpt-4"}, UnknownModel, None),
        ({"sampling": Sampling(top_p=0)}, InvalidRequest, "top_p"),
        ({"stopping": Stopping(max_tokens=0)}, InvalidRequest, "max_tokens"),
        ({"stopping": Stopping(stop=("",))}, InvalidRequest, "stop"),
        ({"prompt": ChatPrompt(())}, InvalidRequest, "messages"),
        ({"choices": 5}, InvalidRequest, "n"),
    ],
)
async def test_invalid_request_raises_before_the_run_and_stores_nothing(
    database: Path, change: dict[str, Any], error: type[CorralError], param: str | None
) -> None:
    async with open_harness(database, "x") as harness:
        with pytest.raises(error) as caught:
            await harness.answer(replace(HELLO, **change))
        assert getattr(caught.value, "param", None) == param
        assert await harness.service.page(harness.caller) == []
        assert harness.engine.stats().emitted_tokens == 0


async def test_request_that_waits_for_a_model_load_releases_its_hold_on_disconnect(database: Path) -> None:
    engine = scripted_engine(load_s=60)
    async with engine.run(), serving(database, engine) as harness:
        await open_account(harness)
        assert not harness.service.ready
        async with harness.service.open(harness.ask()) as run:
            async for _, event in run.events():
                assert event == Queued(position=1)
                break
        async with asyncio.timeout(DEADLINE_S):
            while (await harness.account()).held_nusd:
                await asyncio.sleep(0.005)
        assert (await harness.newest()).completion_tokens == 0


async def test_three_choices_are_billed_for_one_prompt_and_all_their_tokens(database: Path) -> None:
    async with open_harness(database) as harness:
        sampled = replace(limited(20), sampling=Sampling(temperature=1), seed=7)
        result = await harness.answer(replace(sampled, choices=3))
        assert [len(choice.ids) for choice in result.choices] == [20, 20, 20]
        assert len({choice.ids for choice in result.choices}) == 3
        assert (result.usage.prompt_tokens, result.usage.completion_tokens) == (HELLO_TOKENS, 60)
        stored = await harness.newest()
        assert stored.cost_nusd == HELLO_TOKENS * PRICE.input_nusd + 60 * PRICE.output_nusd
        assert stored.texts == [choice.text for choice in result.choices]
        for k, choice in enumerate(result.choices):
            alone = await harness.answer(replace(sampled, seed=7 + k))
            assert alone.choices[0].ids == choice.ids
        assert harness.engine.stats().delivered_tokens == 120


async def test_each_choice_stops_and_counts_on_its_own(database: Path) -> None:
    async with open_harness(database) as harness:
        sampled = replace(limited(200), sampling=Sampling(temperature=1), seed=7, choices=4)
        whole = await harness.answer(sampled)
        stop = whole.choices[2].text[30]  # somewhere in the third, and who knows where in the others
        result = await harness.answer(replace(sampled, stopping=Stopping(max_tokens=200, stop=(stop,))))
        for before, after in zip(whole.choices, result.choices, strict=True):
            text, found, _ = before.text.partition(stop)
            assert (after.text, after.stop) == ((text, stop) if found else (before.text, None))
            assert after.ids == before.ids[: len(after.ids)]
        assert result.usage.completion_tokens == sum(len(choice.ids) for choice in result.choices) < 800
        assert (await harness.newest()).completion_tokens == result.usage.completion_tokens
