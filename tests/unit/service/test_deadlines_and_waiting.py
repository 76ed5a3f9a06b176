"""Stored predictions: deadlines, rejected inputs, waiting, reading without an account, pages, counts."""

import asyncio
from pathlib import Path

import pytest

from corral.core.accounts import Scope
from corral.core.caller import Caller
from corral.core.errors import Canceled, EngineFailed, IdempotencyConflict, PermissionDenied, UnknownPrediction
from corral.core.generation import Delta
from corral.core.prediction import Status, StoppedBy, Webhook, WebhookEvent
from corral.service.ports import PageRequest
from tests.engines import scripted_engine
from tests.unit.service.harness import (
    ByteTokenizer,
    collected,
    limited,
    numbered,
    once,
    open_account,
    open_harness,
    ready_engine,
    serving,
)

pytestmark = pytest.mark.anyio
HOOK = Webhook(url="https://example.org/hook", events=frozenset({WebhookEvent.START, WebhookEvent.COMPLETED}))


async def test_run_is_canceled_at_its_deadline_and_billed_for_its_output(database: Path) -> None:
    async with open_harness(database, step_s=0.002) as harness:
        async with harness.service.open(harness.ask(limited(3000), background=True, cancel_after_s=0.3)) as run:
            with pytest.raises(Canceled):
                await numbered(run)
        stored = await harness.settled(run.id)
        assert stored.completed_at_ms is not None
        assert (stored.status, stored.stopped_by) == (Status.CANCELED, StoppedBy.DEADLINE)
        assert stored.deadline_at_ms == stored.created_at_ms + 300 <= stored.completed_at_ms
        assert 0 < stored.completion_tokens < 3000
        assert stored.output is not None


async def test_deadline_applies_after_a_restart(database: Path) -> None:
    async with ready_engine(step_s=0.003) as engine:
        async with serving(database, engine) as harness:
            await open_account(harness)
            ask = harness.ask(limited(3000), background=True, cancel_after_s=1.0, webhook=HOOK, notes={"asked": "so"})
            async with harness.service.open(ask) as run:
                await anext(aiter(run.events()))
        async with serving(database, engine) as again:
            again.use_account_of(harness)
            stored = await again.settled(run.id)
    assert (stored.status, stored.stopped_by) == (Status.CANCELED, StoppedBy.DEADLINE)
    assert (stored.webhook, stored.notes) == (HOOK, {"asked": "so"})


async def test_deadline_that_passed_during_downtime_cancels_the_run_at_the_start(database: Path) -> None:
    async with ready_engine(step_s=0.003) as engine:
        async with serving(database, engine) as harness:
            await open_account(harness)
            async with harness.service.open(harness.ask(limited(3000), background=True, cancel_after_s=0.2)) as run:
                pass
        await asyncio.sleep(0.25)
        async with serving(database, engine) as again:
            again.use_account_of(harness)
            stored = await again.settled(run.id)
    assert (stored.status, stored.stopped_by) == (Status.CANCELED, StoppedBy.DEADLINE)


async def test_output_has_one_chunk_per_token_with_text(database: Path) -> None:
    async with open_harness(database, "a\U0001f999b") as harness:
        async with harness.service.open(harness.ask()) as run:
            deltas = [event for _, event in await numbered(run) if isinstance(event, Delta)]
        stored = await harness.settled(run.id)
        assert stored.output == [["a", "\U0001f999", "b"]]
        assert len(deltas) == 7  # four of them for one character, and the end
        times_ms = (stored.created_at_ms, stored.admitted_at_ms, stored.started_at_ms, stored.completed_at_ms)
        assert list(times_ms) == sorted(times_ms, key=lambda time_ms: time_ms or 0)


async def test_rejected_input_is_stored_as_a_failed_prediction_without_cost(database: Path) -> None:
    async with open_harness(database) as harness:
        ask = harness.ask(background=True, webhook=HOOK, shown_input={"prompt": "x"}, idempotency=once())
        failed = await harness.service.fail(ask, "E1003 BadPromptTemplate")
        assert (failed.status, failed.error) == (Status.FAILED, "E1003 BadPromptTemplate")
        assert (failed.stopped_by, failed.cost_nusd, failed.prompt_tokens) == (StoppedBy.REFUSED, 0, 0)
        assert failed.webhook == HOOK
        assert failed.input is not None
        assert failed.input["shown"] == {"prompt": "x"}
        assert await harness.service.get(harness.caller, failed.id) == failed
        with pytest.raises(EngineFailed, match="E1003 BadPromptTemplate"):
            await numbered(await harness.service.attach(harness.caller, failed.id))
        assert (await harness.service.fail(ask, "E1003 BadPromptTemplate")).id == failed.id
        with pytest.raises(IdempotencyConflict):
            await harness.service.fail(harness.ask(idempotency=once(body="other")), "E1004")
        assert (await harness.settled(failed.id)).receipt is not None


async def test_rejected_input_of_a_key_without_permission_is_not_stored(database: Path) -> None:
    async with open_harness(database) as harness:
        reader = Caller(account_id=harness.account_id, key_id=harness.caller.key_id, scopes=frozenset({Scope.READ}))
        with pytest.raises(PermissionDenied):
            await harness.service.fail(harness.ask(caller=reader), "E1003")
        assert await harness.service.page(harness.caller) == []


async def test_wait_returns_at_the_end_or_after_its_timeout(database: Path) -> None:
    async with open_harness(database, "x" * 200, step_s=0.005) as harness:
        async with harness.service.open(harness.ask(background=True)) as run:
            pass
        early = await harness.service.wait(harness.caller, run.id, timeout_s=0.1)
        assert not early.status.terminal
        ended = await harness.service.wait(harness.caller, run.id, timeout_s=60)
        assert (ended.status, ended.texts) == (Status.SUCCEEDED, ["x" * 200])
        assert await harness.service.wait(harness.caller, run.id, timeout_s=60) == ended
        with pytest.raises(UnknownPrediction):
            await harness.service.wait(harness.caller, "0" * 26, timeout_s=60)


async def test_wait_covers_the_resumption_after_a_restart(database: Path) -> None:
    async with ready_engine(step_s=0.003) as engine, serving(database, engine) as harness:
        await open_account(harness)
        async with harness.service.open(harness.ask(limited(100), background=True)) as run:
            await anext(aiter(run.events()))
    loading = scripted_engine(vocab_size=ByteTokenizer.vocab_size, load_s=0.5)
    async with loading.run(), serving(database, loading) as again:
        again.use_account_of(harness)
        assert (await again.service.wait(again.caller, run.id, timeout_s=0.05)).status is Status.PROCESSING
        assert (await again.service.wait(again.caller, run.id, timeout_s=60)).status is Status.SUCCEEDED


async def test_find_and_replay_read_predictions_of_any_account(database: Path) -> None:
    async with open_harness(database, "Hello.") as harness:
        async with harness.service.open(harness.ask()) as run:
            result = await collected(run)
        assert await harness.service.find(run.id) == await harness.service.get(harness.caller, run.id)
        assert await collected(await harness.service.replay(run.id)) == result
        for unknown in ("0" * 26, "\x00", "\u00e9"):
            with pytest.raises(UnknownPrediction):
                await harness.service.find(unknown)
            with pytest.raises(UnknownPrediction):
                await harness.service.replay(unknown)


async def test_page_is_filtered_by_time_and_includes_running_predictions(database: Path) -> None:
    async with open_harness(database, "x" * 500, step_s=0.005) as harness:
        await harness.answer(limited(2))
        await asyncio.sleep(0.01)
        async with harness.service.open(harness.ask()) as run:
            async for number, _ in run.events():
                if number > 5:
                    break
            running, over = await harness.service.page(harness.caller)
            assert running.output is not None
            assert running.status is Status.PROCESSING
        old = await harness.service.page(harness.caller, PageRequest(created_before_ms=running.created_at_ms))
        new = await harness.service.page(harness.caller, PageRequest(created_from_ms=running.created_at_ms))
        assert [one.id for one in old] == [over.id]
        assert [one.id for one in new] == [running.id]
        assert [one.id for one in await harness.service.page(harness.caller, PageRequest(before=running.id))] == [
            over.id
        ]


async def test_run_counts_by_model_are_cached_briefly(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_harness(database, "Hi.") as harness:
        assert await harness.service.run_counts() == {}
        await harness.answer()
        await harness.answer()
        assert await harness.service.run_counts() == {}
        monkeypatch.setattr("corral.service.runs.reading.COUNT_AGE_S", 0.0)
        assert await harness.service.run_counts() == {"corral/demo": 2}
