"""Readers of a run: live, late, slow, resumed after any event, and after the end."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from corral.core.errors import UnknownPrediction
from corral.core.generation import Delta, Finished, GenerationEvent, Queued, Sampling, Started
from corral.core.prediction import Prediction, Status
from corral.service.ports import PredictionEvents
from tests.unit.service.harness import ServiceHarness, collected, limited, numbered, open_harness, split_deltas, text_of

pytestmark = pytest.mark.anyio

TWO = replace(limited(40), sampling=Sampling(temperature=1), choices=2)


async def raw(run: PredictionEvents) -> list[tuple[int, GenerationEvent]]:
    return [pair async for pair in run.events()]


async def test_events_are_numbered_and_a_delta_has_the_number_of_its_last_token(database: Path) -> None:
    async with open_harness(database, step_s=0.002) as harness, harness.service.open(harness.ask(limited(30))) as run:
        seen = await raw(run)
        assert [number for number, _ in split_deltas(seen)] == list(range(1, 34))  # Started, 30 tokens, two ends
        numbers = [number for number, _ in seen]
        assert numbers == sorted(set(numbers))


async def test_two_live_readers_and_a_late_reader_get_the_same_events(database: Path) -> None:
    async with open_harness(database, step_s=0.002) as harness, harness.service.open(harness.ask(TWO)) as run:

        async def late() -> list[tuple[int, GenerationEvent]]:
            async for number, _ in run.events():
                if number > 20:
                    break
            return await raw(await harness.service.attach(harness.caller, run.id))

        first, second, third = await asyncio.gather(raw(run), raw(run), late())
        assert split_deltas(first) == split_deltas(second) == split_deltas(third)
        assert len(split_deltas(first)) == 1 + 80 + 2 + 1
        for choice in (0, 1):
            assert text_of(first, choice=choice) == text_of(second, choice=choice) == text_of(third, choice=choice)


async def test_reading_after_any_event_returns_the_rest(database: Path) -> None:
    async with open_harness(database, step_s=0.002) as harness:
        async with harness.service.open(harness.ask(TWO)) as run:
            whole = await numbered(run)
            live = [await numbered(run, after=k) for k in range(len(whole) + 1)]
        assert live == [whole[k:] for k in range(len(whole) + 1)]
        again = await harness.service.attach(harness.caller, run.id)
        assert [await numbered(again, after=k) for k in range(len(whole) + 1)] == live


async def test_reader_that_reconnects_gets_every_event_once(database: Path) -> None:
    async with open_harness(database, step_s=0.002) as harness, harness.service.open(harness.ask(limited(60))) as run:

        async def in_parts() -> list[tuple[int, GenerationEvent]]:
            """A new connection after every event."""
            taken: list[tuple[int, GenerationEvent]] = []
            while not (taken and isinstance(taken[-1][1], Finished)):
                after = taken[-1][0] if taken else 0
                async for pair in run.events(after=after):
                    taken.append(pair)
                    break
            return taken

        parts, whole = await asyncio.gather(in_parts(), raw(run))
        assert split_deltas(parts) == split_deltas(whole)
        assert text_of(parts) == text_of(whole)


async def test_slow_reader_gets_merged_deltas_with_the_same_text(database: Path) -> None:
    async with open_harness(database) as harness, harness.service.open(harness.ask(limited(100))) as run:
        slow = run.events()
        first = await anext(slow)
        quick = await raw(run)  # to the end, while the slow one reads nothing
        rest = [pair async for pair in slow]
        assert [type(event) for _, event in rest].count(Delta) == 1
        assert split_deltas([first, *rest]) == split_deltas(quick)
        assert text_of(rest) == text_of(quick)
        (choice,) = (await harness.settled(run.id)).texts or []
        assert choice == text_of(quick)


async def test_finished_run_is_read_from_the_store_unchanged(database: Path) -> None:
    async with open_harness(database, step_s=0.002) as harness:
        async with harness.service.open(harness.ask(replace(TWO, pieces=True))) as run:
            live = await raw(run)
        again = await harness.service.attach(harness.caller, run.id)
        assert (again.id, again.created_at_ms, again.price) == (run.id, run.created_at_ms, run.price)
        stored = await raw(again)
        assert split_deltas(stored) == split_deltas(live)
        assert [text_of(stored, choice=k) for k in (0, 1)] == [text_of(live, choice=k) for k in (0, 1)]


async def test_running_prediction_has_its_output_so_far(database: Path) -> None:
    async with open_harness(database, "x" * 100, step_s=0.005) as harness, harness.service.open(harness.ask()) as run:
        async for number, _ in run.events():
            if number > 10:
                stored = await harness.service.get(harness.caller, run.id)
                assert stored.status == "processing"
                assert stored.output is not None
                assert len(stored.output[0]) == stored.completion_tokens >= 10
                assert stored.started_at_ms is not None
                break


async def test_queue_position_is_sent_but_not_logged(database: Path) -> None:
    async with (
        open_harness(database, max_sequences=1, step_s=0.005) as harness,
        harness.service.open(harness.ask(limited(2000))),
        harness.service.open(harness.ask(limited(60))) as second,
        harness.service.open(harness.ask(limited(5))) as run,
    ):
        waiting = run.events()
        assert await anext(waiting) == (0, Queued(position=2))
        assert (await harness.service.get(harness.caller, run.id)).status == "starting"
        await harness.service.cancel(harness.caller, second.id)
        assert await anext(waiting) == (0, Queued(position=1))
        await cancel_first(harness)
        rest = [pair async for pair in waiting]
        assert isinstance(rest[0][1], Started)
        assert not any(isinstance(event, Queued) for _, event in await raw(run))


async def cancel_first(harness: ServiceHarness) -> None:
    oldest = (await harness.service.page(harness.caller))[-1]
    await harness.service.cancel(harness.caller, oldest.id)


async def test_predictions_of_another_account_are_unknown(database: Path) -> None:
    async with open_harness(database, "x" * 100, step_s=0.005) as harness, harness.service.open(harness.ask()) as run:
        ann = harness.caller
        eve = await harness.use_account(await harness.accounts.create("Eve"))
        for look in (harness.service.get, harness.service.attach, harness.service.cancel):
            with pytest.raises(UnknownPrediction):
                await look(eve, run.id)
        assert await harness.service.page(eve) == []
        assert (await harness.service.get(ann, run.id)).id == run.id
        harness.caller, harness.account_id = ann, ann.account_id


LOOKS: dict[str, Callable[[ServiceHarness, str], Awaitable[Prediction]]] = {
    "get": lambda harness, prediction_id: harness.service.get(harness.caller, prediction_id),
    "find": lambda harness, prediction_id: harness.service.find(prediction_id),
    "page": lambda harness, _: harness.newest(),
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
async def test_run_that_ends_while_its_row_is_read_is_returned_as_ended(
    database: Path, monkeypatch: pytest.MonkeyPatch, look: Callable[[ServiceHarness, str], Awaitable[Prediction]]
) -> None:
    async with open_harness(database, "hello", step_s=0.002) as harness, harness.service.open(harness.ask()) as run:
        read = harness.store.read

        async def read_before_the_end(work: Any) -> Any:
            found = await read(work)
            monkeypatch.setattr(harness.store, "read", read)
            await collected(run)
            await harness.settled(run.id)
            return found

        monkeypatch.setattr(harness.store, "read", read_before_the_end)
        shown = await look(harness, run.id)
        assert (shown.status, shown.texts) == (Status.SUCCEEDED, ["hello"])
