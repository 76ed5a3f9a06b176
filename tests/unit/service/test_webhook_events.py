"""Webhook events of a run: which are sent, in which order, how often, and that the last one is always sent."""

from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from corral.core.errors import InvalidRequest, Overloaded
from corral.core.generation import RawPrompt
from corral.core.prediction import Prediction, Status, StoppedBy
from corral.engines.policy import QueuePolicy
from corral.service.webhooks.webhooks import DEFAULT_EVENTS, as_of_event
from corral.store.runs import claims
from corral.store.webhooks import outbox
from tests.contract.store.books import wanted
from tests.receiver import Receiver, receiving
from tests.unit.service.harness import (
    FIRST_BYTE_ID,
    PRICE,
    ServiceHarness,
    limited,
    open_account,
    open_harness,
    ready_engine,
    serving,
)
from tests.unit.service.webhook_harness import COMPLETED, LOGS, OUTPUT, START, delivering, ended, hook

pytestmark = pytest.mark.anyio


def delivering_events(harness: ServiceHarness, **options: Any) -> Any:
    """Deliver the webhook events of the harness's service."""
    return delivering(harness.store, clock=harness.clock, find=harness.service.find, **options)


async def run_in_background(harness: ServiceHarness, receiver: Receiver, *events: Any, tokens: int = 5) -> Prediction:
    ask = harness.ask(limited(tokens), background=True, webhook=hook(receiver.url, *events))
    async with harness.service.open(ask) as run:
        pass
    return await harness.settled(run.id)


def received_events(receiver: Receiver) -> list[str]:
    return [each.json()["event"] for each in receiver.received]


async def test_long_run_sends_start_output_logs_and_completed(database: Path) -> None:
    async with (
        receiving() as receiver,
        open_harness(database, step_s=0.01) as harness,
        delivering_events(harness) as webhooks,
    ):
        stored = await run_in_background(harness, receiver, tokens=170)
        await ended(webhooks, 1)
        while received_events(receiver)[-1:] != ["completed"]:
            await receiver.until(len(receiver.received) + 1)
        begun, *between, last = receiver.received
        assert begun.json() == {"event": START, "id": stored.id, "status": "processing", "output": None, "ended": False}
        assert last.json()["status"] == "succeeded"
        assert last.json()["output"] == stored.texts
        kinds = [each.json()["event"] for each in between]
        assert kinds.count(LOGS) == 1
        assert kinds.count(OUTPUT) >= 2
        outputs = [each.json()["output"][0] for each in between if each.json()["event"] == OUTPUT]
        assert stored.texts is not None
        assert all(stored.texts[0].startswith(text) for text in outputs)
        assert all(len(earlier) < len(later) for earlier, later in pairwise(outputs))
        assert {each.json()["status"] for each in between} == {"processing"}
        assert min(later.at_s - earlier.at_s for earlier, later in pairwise(between)) >= 0.499


async def test_short_run_sends_every_event_in_order(database: Path) -> None:
    async with receiving() as receiver, open_harness(database, "Hi") as harness, delivering_events(harness):
        stored = await run_in_background(harness, receiver)
        received = await receiver.until(4)
        assert received_events(receiver)[0] == START
        assert sorted(received_events(receiver)[1:3]) == [LOGS, OUTPUT]
        assert received_events(receiver)[3] == COMPLETED
        assert [each.json()["ended"] for each in received] == [False, False, False, True]
        assert received[3].json()["output"] == stored.texts == ["Hi"]


@pytest.mark.parametrize("events", [(COMPLETED,), (START, COMPLETED), tuple(sorted(DEFAULT_EVENTS, reverse=True))])
async def test_only_the_chosen_events_are_sent(database: Path, events: Any) -> None:
    async with receiving() as receiver, open_harness(database, "Hi") as harness, delivering_events(harness):
        await run_in_background(harness, receiver, *events)
        await receiver.until(len(events))
        assert received_events(receiver) == [
            event.value for event in sorted(events, key=[START, OUTPUT, COMPLETED].index)
        ]


async def test_run_without_a_webhook_enqueues_no_delivery(database: Path) -> None:
    calls: list[None] = []
    async with (
        ready_engine(answer=(5, 6, 7)) as engine,
        serving(database, engine, on_webhook=lambda: calls.append(None)) as harness,
    ):
        await open_account(harness)
        await harness.answer()
        assert calls == await harness.store.read(outbox.deliveries) == []
        async with harness.service.open(harness.ask(webhook=hook("http://127.0.0.1:9/x"), background=True)) as run:
            pass
        await harness.settled(run.id)
        await harness.balanced()
        assert calls


async def test_rejected_input_and_canceled_run_send_completed(database: Path) -> None:
    async with receiving() as receiver, open_harness(database, step_s=0.002) as harness, delivering_events(harness):
        failed = await harness.service.fail(harness.ask(webhook=hook(receiver.url)), "E1001 PromptTooLong")
        (first,) = await receiver.until(1)
        assert first.json() == {
            "event": COMPLETED, "id": failed.id, "status": "failed", "output": None, "ended": True,
        }  # fmt: skip
        ask = harness.ask(limited(3000), background=True, webhook=hook(receiver.url, COMPLETED))
        async with harness.service.open(ask) as run:
            await anext(aiter(run.events()))
        await harness.service.cancel(harness.caller, run.id)
        last = (await receiver.until(2))[-1]
        assert (last.json()["id"], last.json()["status"]) == (run.id, "canceled")


async def test_request_answered_with_an_error_sends_no_event(database: Path) -> None:
    policy = QueuePolicy(max_waiting=1)
    async with open_harness(database, policy=policy, max_sequences=1, step_s=0.002) as harness:
        async with harness.service.open(harness.ask(limited(1000))), harness.service.open(harness.ask(limited(1000))):
            with pytest.raises(Overloaded):
                async with harness.service.open(harness.ask(background=True, webhook=hook("http://127.0.0.1:9/x"))):
                    pass
            (refused,) = await harness.not_admitted()
        assert (refused.status, refused.webhook is None) == (Status.FAILED, False)
        assert await harness.store.read(outbox.deliveries) == []


async def test_run_that_fails_after_its_acceptance_sends_completed(database: Path) -> None:
    async with (
        receiving() as receiver,
        open_harness(database, refused_id=FIRST_BYTE_ID + ord("Q")) as harness,
        delivering_events(harness),
    ):
        bad = replace(limited(5), prompt=RawPrompt("<s>Q"))
        async with harness.service.open(harness.ask(bad, background=True, webhook=hook(receiver.url))):
            pass
        (last,) = await receiver.until(1)
        assert (last.json()["event"], last.json()["status"]) == (COMPLETED, "failed")


async def test_request_with_an_invalid_webhook_url_is_rejected(database: Path) -> None:
    async with open_harness(database) as harness:
        for url in ("ftp://example.com/", "https://user:secret@example.com/", "nonsense"):
            with pytest.raises(InvalidRequest, match="webhook's URL") as refused:
                async with harness.service.open(harness.ask(webhook=hook(url))):
                    pass
            assert refused.value.param == "webhook"
            assert "secret" not in str(refused.value)
            with pytest.raises(InvalidRequest):
                await harness.service.fail(harness.ask(webhook=hook(url)), "reason")
        assert await harness.service.page(harness.caller) == []


async def test_events_of_a_privacy_key_have_no_text(database: Path) -> None:
    async with (
        receiving() as receiver,
        open_harness(database, "secret", terms={"privacy": True}) as harness,
        delivering_events(harness),
    ):
        await run_in_background(harness, receiver)
        received = await receiver.until(4)
    assert {each.json()["output"] for each in received} == {None}
    assert all(b"secret" not in each.body for each in received)


async def test_run_resumed_after_a_restart_sends_start_and_completed_once(database: Path) -> None:
    async with receiving() as receiver, ready_engine(step_s=0.005) as engine:
        async with serving(database, engine) as harness, delivering_events(harness):
            await open_account(harness)
            ask = harness.ask(limited(150), background=True, webhook=hook(receiver.url))
            async with harness.service.open(ask) as run:
                await receiver.until(1)
        async with serving(database, engine) as again, delivering_events(again):
            again.use_account_of(harness)
            stored = await again.settled(run.id)
            while received_events(receiver)[-1:] != ["completed"]:
                await receiver.until(len(receiver.received) + 1)
    assert (received_events(receiver).count(START), received_events(receiver).count(COMPLETED)) == (1, 1)
    assert receiver.received[-1].json()["output"] == stored.texts


async def test_run_abandoned_after_a_restart_sends_completed(database: Path) -> None:
    async with receiving() as receiver, ready_engine() as engine:
        async with serving(database, engine) as harness:
            await open_account(harness)
            account = await harness.account()
            (key,) = await harness.keys.list(account.id)
            left = wanted(account, key, price=PRICE, model="corral/demo", input=None, webhook=hook(receiver.url))
            await harness.store.write(partial(claims.claim, wanted=left, now_ms=int(harness.clock() * 1000)))
        async with serving(database, engine) as again, delivering_events(again):
            (last,) = await receiver.until(1)
    assert (last.json()["event"], last.json()["status"]) == (COMPLETED, "failed")
    assert last.json()["id"] == left.prediction_id


async def test_event_shows_the_prediction_as_of_its_time(database: Path) -> None:
    async with open_harness(database, "Hi") as harness:
        await harness.answer()
        over = await harness.newest()
    assert as_of_event(over, COMPLETED) is over
    assert over.status is Status.SUCCEEDED
    for event in (OUTPUT, LOGS):
        running = as_of_event(over, event)
        assert (running.status, running.output) == (Status.PROCESSING, over.output)
        assert (running.completed_at_ms, running.cost_nusd, running.receipt, running.stopped_by) == (None,) * 4
    begun = as_of_event(over, START)
    assert (begun.output, begun.completion_tokens, begun.status) == (None, 0, Status.PROCESSING)
    assert over.stopped_by is StoppedBy.MODEL
