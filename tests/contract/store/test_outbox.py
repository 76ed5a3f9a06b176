"""Webhook outbox: order, throttling, leases and retries."""

import asyncio
from collections.abc import Iterable

import pytest
from sqlalchemy import Connection

from corral.core.prediction import Prediction, Webhook, WebhookEvent
from corral.core.webhooks import Delivery, DeliveryState
from corral.store.runs.settlements import record_start
from corral.store.webhooks import outbox
from corral.store.webhooks.outbox import THROTTLE_MS, Leased, WebhookTarget
from tests.contract.store.books import DAY, MINUTE, NOON, Books

pytestmark = pytest.mark.anyio

START, OUTPUT, LOGS, COMPLETED = WebhookEvent
HOOK = Webhook(url="https://example.com:444/hook?of=ann", events=frozenset(WebhookEvent))


class OutboxClient:
    """Outbox operations of a gateway for one account, with a clock set by the test."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self.now_ms = NOON

    async def claim(self, webhook: Webhook = HOOK) -> Prediction:
        return await self.books.claim(webhook=webhook)

    async def enqueue(self, prediction: Prediction, *events: WebhookEvent) -> None:
        assert prediction.webhook is not None
        target = WebhookTarget(
            prediction_id=prediction.id, account_id=prediction.account_id, webhook=prediction.webhook
        )
        await self.books.store.write(lambda c: outbox.enqueue(c, target, events, now_ms=self.now_ms))

    async def due(self, **busy: Iterable[str]) -> list[str]:
        found = await self.books.store.read(lambda c: outbox.due(c, now_ms=self.now_ms, **busy))
        return [each.id for each in found]

    async def lease(self) -> list[Leased]:
        ids, until_ms = await self.due(), self.now_ms + MINUTE
        return await self.books.store.write(lambda c: outbox.lease(c, ids, now_ms=self.now_ms, until_ms=until_ms))

    async def finish(self, leased: Leased, state: DeliveryState = DeliveryState.DELIVERED, **how: object) -> None:
        how = {"at_ms": self.now_ms, **how}
        await self.books.store.write(lambda c: outbox.finish(c, leased, state=state, **how))

    async def send(self) -> list[WebhookEvent]:
        """Deliver all due events; return them."""
        taken = await self.lease()
        for each in taken:
            await self.finish(each, status=200)
        return [each.event for each in taken]

    async def log(self, **which: str) -> list[Delivery]:
        return await self.books.store.read(lambda c: outbox.deliveries(c, **which))


@pytest.fixture
def outbox_client(books: Books) -> OutboxClient:
    return OutboxClient(books)


async def test_events_of_a_prediction_go_out_in_order_and_one_at_a_time(outbox_client: OutboxClient) -> None:
    prediction = await outbox_client.claim()
    await outbox_client.enqueue(prediction, COMPLETED)
    outbox_client.now_ms += 1
    await outbox_client.enqueue(prediction, OUTPUT, START)
    sent: list[WebhookEvent] = []
    for _ in range(3):
        sent += await outbox_client.send()
    assert sent == [START, OUTPUT, COMPLETED]


async def test_events_of_different_predictions_do_not_wait_for_each_other(outbox_client: OutboxClient) -> None:
    made = [await outbox_client.claim() for _ in range(3)]
    for prediction in made:
        await outbox_client.enqueue(prediction, START, OUTPUT)
    assert {each.prediction_id for each in await outbox_client.lease()} == {prediction.id for prediction in made}
    assert await outbox_client.lease() == []


async def test_only_subscribed_events_are_enqueued(outbox_client: OutboxClient) -> None:
    prediction = await outbox_client.claim(Webhook(url=HOOK.url, events=frozenset({COMPLETED})))
    await outbox_client.enqueue(prediction, START, LOGS, OUTPUT)
    assert await outbox_client.due() == []
    await outbox_client.enqueue(prediction, OUTPUT, COMPLETED)
    assert await outbox_client.send() == [COMPLETED]


async def test_output_and_logs_share_one_throttle_and_other_events_skip_it(outbox_client: OutboxClient) -> None:
    prediction = await outbox_client.claim()
    await outbox_client.enqueue(prediction, OUTPUT, LOGS)
    assert await outbox_client.send() == [OUTPUT]
    assert await outbox_client.send() == []
    outbox_client.now_ms += THROTTLE_MS - 1
    assert await outbox_client.send() == []
    outbox_client.now_ms += 1
    assert await outbox_client.send() == [LOGS]
    await outbox_client.enqueue(prediction, START, OUTPUT)
    assert await outbox_client.send() == [START]
    await outbox_client.enqueue(prediction, COMPLETED)
    assert await outbox_client.send() == [COMPLETED]


async def test_output_events_are_merged_while_pending(outbox_client: OutboxClient) -> None:
    prediction = await outbox_client.claim()
    for _ in range(5):
        await outbox_client.enqueue(prediction, OUTPUT)
    assert await outbox_client.send() == [OUTPUT]
    await outbox_client.enqueue(prediction, OUTPUT)
    assert len(await outbox_client.log()) == 2


async def test_completed_event_replaces_pending_outputs_except_the_first(outbox_client: OutboxClient) -> None:
    first, later = await outbox_client.claim(), await outbox_client.claim()
    await outbox_client.enqueue(later, OUTPUT)
    assert await outbox_client.send() == [OUTPUT]
    for prediction in (first, later):
        await outbox_client.enqueue(prediction, OUTPUT)
        await outbox_client.enqueue(prediction, OUTPUT, COMPLETED)
    assert sorted(await outbox_client.send()) == [COMPLETED, OUTPUT]
    assert await outbox_client.send() == [COMPLETED]
    assert [each.event for each in await outbox_client.log(prediction_id=later.id)] == [COMPLETED, OUTPUT]


async def test_completed_event_does_not_remove_an_output_being_sent(outbox_client: OutboxClient) -> None:
    prediction = await outbox_client.claim()
    await outbox_client.enqueue(prediction, OUTPUT)
    await outbox_client.send()
    outbox_client.now_ms += THROTTLE_MS
    await outbox_client.enqueue(prediction, OUTPUT)
    (leased,) = await outbox_client.lease()
    await outbox_client.enqueue(prediction, COMPLETED)
    assert await outbox_client.lease() == []
    await outbox_client.finish(leased, status=204)
    assert await outbox_client.send() == [COMPLETED]


async def test_run_that_ends_before_any_event_enqueues_all_events(outbox_client: OutboxClient, books: Books) -> None:
    prediction = await outbox_client.claim()
    await books.settle(prediction, started_at_ms=NOON)
    sent = await outbox_client.send() + await outbox_client.send()
    outbox_client.now_ms += THROTTLE_MS
    sent += await outbox_client.send()
    sent += await outbox_client.send()
    assert sent[0] is START
    assert sorted(sent) == sorted(WebhookEvent)
    assert sent[-1] is COMPLETED


async def test_run_that_never_started_enqueues_only_completed(outbox_client: OutboxClient, books: Books) -> None:
    await books.settle(await outbox_client.claim(), output=None, tokens=0)
    begun = await outbox_client.claim()
    await books.store.write(lambda c: record_start(c, begun.id, now_ms=NOON))
    await books.settle(begun, output=[[]], started_at_ms=NOON)
    assert [each.event for each in await outbox_client.log()] == [COMPLETED, COMPLETED]


async def test_no_events_are_enqueued_without_a_webhook(outbox_client: OutboxClient, books: Books) -> None:
    await books.settle(await books.claim(), started_at_ms=NOON)
    assert await outbox_client.log() == []


async def test_events_are_enqueued_in_the_transaction_of_the_state_change(
    outbox_client: OutboxClient, books: Books
) -> None:
    prediction = await outbox_client.claim()
    target = WebhookTarget(prediction_id=prediction.id, account_id=prediction.account_id, webhook=HOOK)

    def write(connection: Connection) -> None:
        record_start(connection, prediction.id, now_ms=NOON)
        outbox.enqueue(connection, target, [START], now_ms=NOON)
        raise OverflowError

    with pytest.raises(OverflowError):
        await books.store.write(write)
    assert await outbox_client.log() == []


async def test_a_row_is_leased_by_one_of_many_gateways(outbox_client: OutboxClient) -> None:
    for _ in range(8):
        await outbox_client.enqueue(await outbox_client.claim(), START)
    takes = await asyncio.gather(*(outbox_client.lease() for _ in range(6)))
    taken = [each.id for take in takes for each in take]
    assert len(taken) == len(set(taken)) == 8


async def test_row_of_a_dead_gateway_is_leased_again_after_expiry(outbox_client: OutboxClient) -> None:
    await outbox_client.enqueue(await outbox_client.claim(), COMPLETED)
    (lost,) = await outbox_client.lease()
    outbox_client.now_ms = lost.leased_until_ms - 1
    assert await outbox_client.lease() == []
    outbox_client.now_ms += 1
    (again,) = await outbox_client.lease()
    assert (again.id, again.attempts) == (lost.id, 2)
    await outbox_client.finish(lost, DeliveryState.FAILED)
    (delivery,) = await outbox_client.log()
    assert delivery.state is DeliveryState.PENDING
    await outbox_client.finish(again, status=200)
    (delivery,) = await outbox_client.log()
    assert delivery.state is DeliveryState.DELIVERED


async def test_released_row_does_not_count_as_an_attempt(outbox_client: OutboxClient, books: Books) -> None:
    await outbox_client.enqueue(await outbox_client.claim(), COMPLETED)
    (leased,) = await outbox_client.lease()
    await books.store.write(lambda c: outbox.release(c, leased))
    (again,) = await outbox_client.lease()
    assert again.attempts == 1


async def test_failed_attempt_is_due_again_at_its_retry_time(outbox_client: OutboxClient) -> None:
    await outbox_client.enqueue(await outbox_client.claim(), COMPLETED)
    (leased,) = await outbox_client.lease()
    await outbox_client.finish(leased, DeliveryState.PENDING, error="timeout", at_ms=NOON + MINUTE)
    (delivery,) = await outbox_client.log()
    assert (delivery.state, delivery.last_error, delivery.due_at_ms) == ("pending", "timeout", NOON + MINUTE)
    assert await outbox_client.lease() == []
    outbox_client.now_ms = NOON + MINUTE
    assert await outbox_client.send() == [COMPLETED]
    (delivery,) = await outbox_client.log()
    assert (delivery.attempts, delivery.last_status, delivery.last_error) == (2, 200, None)
    assert delivery.ended_at_ms == NOON + MINUTE


async def test_busy_receivers_and_accounts_are_skipped(outbox_client: OutboxClient, books: Books) -> None:
    await outbox_client.enqueue(await outbox_client.claim(), START)
    other = Webhook(url="HTTPS://Elsewhere.example/x/y", events=HOOK.events)
    await outbox_client.enqueue(await outbox_client.claim(other), START)
    assert len(await outbox_client.due()) == 2
    (left,) = await books.store.read(lambda c: outbox.due(c, now_ms=NOON, busy_receivers=["https://example.com:444"]))
    assert left.receiver == "https://elsewhere.example"
    assert await outbox_client.due(busy_accounts=[books.account.id]) == []


async def test_replay_is_delivered_again_under_the_same_id(outbox_client: OutboxClient, books: Books) -> None:
    await outbox_client.enqueue(await outbox_client.claim(), COMPLETED)
    await outbox_client.send()
    (before,) = await outbox_client.log()
    at_ms = NOON + DAY
    for stranger in ("acct_x", "msg_x"):
        assert not await books.store.write(
            lambda c, who=stranger: outbox.replay(c, before.id, account_id=who, now_ms=1)
        )
    replayed = await books.store.write(lambda c: outbox.replay(c, before.id, account_id=books.account.id, now_ms=at_ms))
    assert replayed is not None
    assert (replayed.state, replayed.ended_at_ms) == ("pending", None)
    outbox_client.now_ms = at_ms
    (again,) = await outbox_client.lease()
    assert (again.id, again.attempts) == (before.id, 2)
    assert await books.store.write(lambda c: outbox.replay(c, "msg_unknown", now_ms=1)) is None


async def test_the_log_is_listed_by_account_and_prediction_newest_first(
    outbox_client: OutboxClient, books: Books
) -> None:
    other = await Books.begin(books.store)
    one, two = await outbox_client.claim(), await outbox_client.claim()
    await outbox_client.enqueue(one, START)
    outbox_client.now_ms += 1
    await outbox_client.enqueue(two, START)
    assert [each.prediction_id for each in await outbox_client.log(account_id=books.account.id)] == [two.id, one.id]
    assert [each.prediction_id for each in await outbox_client.log(prediction_id=one.id)] == [one.id]
    assert await outbox_client.log(account_id=other.account.id) == []
    (newest,) = await books.store.read(lambda c: outbox.deliveries(c, limit=1))
    assert newest.prediction_id == two.id


async def test_old_deliveries_are_purged_except_pending_ones(outbox_client: OutboxClient, books: Books) -> None:
    for _ in range(3):
        await outbox_client.enqueue(await outbox_client.claim(), START, COMPLETED)
    await outbox_client.send()
    later = NOON + DAY

    async def forget(limit: int, before_ms: int = later) -> int:
        return await books.store.write(lambda c: outbox.purge(c, before_ms=before_ms, limit=limit))

    assert await forget(9, NOON) == 0
    assert [await forget(2), await forget(2), await forget(2)] == [2, 1, 0]
    assert {each.event for each in await outbox_client.log()} == {COMPLETED}
