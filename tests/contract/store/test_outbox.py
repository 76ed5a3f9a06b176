"""What is told of a prediction: in order, one at a time, not too often, by one gateway, until it is told."""

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


class Post:
    """A gateway's view of the outbox of one account; time is where the test puts it."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self.now_ms = NOON

    async def begin(self, webhook: Webhook = HOOK) -> Prediction:
        return await self.books.claim(webhook=webhook)

    async def tell(self, prediction: Prediction, *events: WebhookEvent) -> None:
        assert prediction.webhook is not None
        whom = WebhookTarget(prediction_id=prediction.id, account_id=prediction.account_id, webhook=prediction.webhook)
        await self.books.store.write(lambda c: outbox.enqueue(c, whom, events, now_ms=self.now_ms))

    async def due(self, **busy: Iterable[str]) -> list[str]:
        found = await self.books.store.read(lambda c: outbox.due(c, now_ms=self.now_ms, **busy))
        return [each.id for each in found]

    async def take(self) -> list[Leased]:
        ids, until_ms = await self.due(), self.now_ms + MINUTE
        return await self.books.store.write(lambda c: outbox.lease(c, ids, now_ms=self.now_ms, until_ms=until_ms))

    async def finish(self, leased: Leased, state: DeliveryState = DeliveryState.DELIVERED, **how: object) -> None:
        how = {"at_ms": self.now_ms, **how}
        await self.books.store.write(lambda c: outbox.finish(c, leased, state=state, **how))

    async def send(self) -> list[WebhookEvent]:
        """Deliver whatever may be sent at this moment; what that was."""
        taken = await self.take()
        for each in taken:
            await self.finish(each, status=200)
        return [each.event for each in taken]

    async def log(self, **which: str) -> list[Delivery]:
        return await self.books.store.read(lambda c: outbox.deliveries(c, **which))


@pytest.fixture
def post(books: Books) -> Post:
    return Post(books)


async def test_events_of_a_prediction_go_out_in_order_and_one_at_a_time(post: Post) -> None:
    prediction = await post.begin()
    await post.tell(prediction, COMPLETED)
    post.now_ms += 1
    await post.tell(prediction, OUTPUT, START)
    sent: list[WebhookEvent] = []
    for _ in range(3):
        sent += await post.send()
    assert sent == [START, OUTPUT, COMPLETED]


async def test_events_of_different_predictions_do_not_wait_for_each_other(post: Post) -> None:
    made = [await post.begin() for _ in range(3)]
    for prediction in made:
        await post.tell(prediction, START, OUTPUT)
    assert {each.prediction_id for each in await post.take()} == {prediction.id for prediction in made}
    assert await post.take() == []


async def test_only_subscribed_events_are_enqueued(post: Post) -> None:
    prediction = await post.begin(Webhook(url=HOOK.url, events=frozenset({COMPLETED})))
    await post.tell(prediction, START, LOGS, OUTPUT)
    assert await post.due() == []
    await post.tell(prediction, OUTPUT, COMPLETED)
    assert await post.send() == [COMPLETED]


async def test_output_and_logs_share_one_throttle_and_other_events_skip_it(post: Post) -> None:
    prediction = await post.begin()
    await post.tell(prediction, OUTPUT, LOGS)
    assert await post.send() == [OUTPUT]
    assert await post.send() == []
    post.now_ms += THROTTLE_MS - 1
    assert await post.send() == []
    post.now_ms += 1
    assert await post.send() == [LOGS]
    await post.tell(prediction, START, OUTPUT)
    assert await post.send() == [START]
    await post.tell(prediction, COMPLETED)
    assert await post.send() == [COMPLETED]


async def test_output_events_are_merged_while_pending(post: Post) -> None:
    prediction = await post.begin()
    for _ in range(5):
        await post.tell(prediction, OUTPUT)
    assert await post.send() == [OUTPUT]
    await post.tell(prediction, OUTPUT)
    assert len(await post.log()) == 2


async def test_completed_event_replaces_pending_outputs_except_the_first(post: Post) -> None:
    first, later = await post.begin(), await post.begin()
    await post.tell(later, OUTPUT)
    assert await post.send() == [OUTPUT]
    for prediction in (first, later):
        await post.tell(prediction, OUTPUT)
        await post.tell(prediction, OUTPUT, COMPLETED)
    assert sorted(await post.send()) == [COMPLETED, OUTPUT]
    assert await post.send() == [COMPLETED]
    assert [each.event for each in await post.log(prediction_id=later.id)] == [COMPLETED, OUTPUT]


async def test_completed_event_does_not_remove_an_output_being_sent(post: Post) -> None:
    prediction = await post.begin()
    await post.tell(prediction, OUTPUT)
    await post.send()
    post.now_ms += THROTTLE_MS
    await post.tell(prediction, OUTPUT)
    (leased,) = await post.take()
    await post.tell(prediction, COMPLETED)
    assert await post.take() == []
    await post.finish(leased, status=204)
    assert await post.send() == [COMPLETED]


async def test_run_that_ends_before_any_event_enqueues_all_events(post: Post, books: Books) -> None:
    prediction = await post.begin()
    await books.settle(prediction, started_at_ms=NOON)
    sent = await post.send() + await post.send()
    post.now_ms += THROTTLE_MS
    sent += await post.send()
    sent += await post.send()
    assert sent[0] is START
    assert sorted(sent) == sorted(WebhookEvent)
    assert sent[-1] is COMPLETED


async def test_run_that_never_started_enqueues_only_completed(post: Post, books: Books) -> None:
    await books.settle(await post.begin(), output=None, tokens=0)
    begun = await post.begin()
    await books.store.write(lambda c: record_start(c, begun.id, now_ms=NOON))
    await books.settle(begun, output=[[]], started_at_ms=NOON)
    assert [each.event for each in await post.log()] == [COMPLETED, COMPLETED]


async def test_no_events_are_enqueued_without_a_webhook(post: Post, books: Books) -> None:
    await books.settle(await books.claim(), started_at_ms=NOON)
    assert await post.log() == []


async def test_events_are_enqueued_in_the_transaction_of_the_state_change(post: Post, books: Books) -> None:
    prediction = await post.begin()
    whom = WebhookTarget(prediction_id=prediction.id, account_id=prediction.account_id, webhook=HOOK)

    def write(connection: Connection) -> None:
        record_start(connection, prediction.id, now_ms=NOON)
        outbox.enqueue(connection, whom, [START], now_ms=NOON)
        raise OverflowError

    with pytest.raises(OverflowError):
        await books.store.write(write)
    assert await post.log() == []


async def test_a_row_is_leased_by_one_of_many_gateways(post: Post) -> None:
    for _ in range(8):
        await post.tell(await post.begin(), START)
    takes = await asyncio.gather(*(post.take() for _ in range(6)))
    taken = [each.id for take in takes for each in take]
    assert len(taken) == len(set(taken)) == 8


async def test_row_of_a_dead_gateway_is_leased_again_after_expiry(post: Post) -> None:
    await post.tell(await post.begin(), COMPLETED)
    (lost,) = await post.take()
    post.now_ms = lost.leased_until_ms - 1
    assert await post.take() == []
    post.now_ms += 1
    (again,) = await post.take()
    assert (again.id, again.attempts) == (lost.id, 2)
    await post.finish(lost, DeliveryState.FAILED)
    (delivery,) = await post.log()
    assert delivery.state is DeliveryState.PENDING
    await post.finish(again, status=200)
    (delivery,) = await post.log()
    assert delivery.state is DeliveryState.DELIVERED


async def test_released_row_does_not_count_as_an_attempt(post: Post, books: Books) -> None:
    await post.tell(await post.begin(), COMPLETED)
    (leased,) = await post.take()
    await books.store.write(lambda c: outbox.release(c, leased))
    (again,) = await post.take()
    assert again.attempts == 1


async def test_failed_attempt_is_due_again_at_its_retry_time(post: Post) -> None:
    await post.tell(await post.begin(), COMPLETED)
    (leased,) = await post.take()
    await post.finish(leased, DeliveryState.PENDING, error="timeout", at_ms=NOON + MINUTE)
    (delivery,) = await post.log()
    assert (delivery.state, delivery.last_error, delivery.due_at_ms) == ("pending", "timeout", NOON + MINUTE)
    assert await post.take() == []
    post.now_ms = NOON + MINUTE
    assert await post.send() == [COMPLETED]
    (delivery,) = await post.log()
    assert (delivery.attempts, delivery.last_status, delivery.last_error) == (2, 200, None)
    assert delivery.ended_at_ms == NOON + MINUTE


async def test_busy_receivers_and_accounts_are_skipped(post: Post, books: Books) -> None:
    await post.tell(await post.begin(), START)
    other = Webhook(url="HTTPS://Elsewhere.example/x/y", events=HOOK.events)
    await post.tell(await post.begin(other), START)
    assert len(await post.due()) == 2
    (left,) = await books.store.read(lambda c: outbox.due(c, now_ms=NOON, busy_receivers=["https://example.com:444"]))
    assert left.receiver == "https://elsewhere.example"
    assert await post.due(busy_accounts=[books.account.id]) == []


async def test_replay_is_delivered_again_under_the_same_id(post: Post, books: Books) -> None:
    await post.tell(await post.begin(), COMPLETED)
    await post.send()
    (before,) = await post.log()
    at_ms = NOON + DAY
    for stranger in ("acct_x", "msg_x"):
        assert not await books.store.write(
            lambda c, who=stranger: outbox.replay(c, before.id, account_id=who, now_ms=1)
        )
    replayed = await books.store.write(lambda c: outbox.replay(c, before.id, account_id=books.account.id, now_ms=at_ms))
    assert replayed is not None
    assert (replayed.state, replayed.ended_at_ms) == ("pending", None)
    post.now_ms = at_ms
    (again,) = await post.take()
    assert (again.id, again.attempts) == (before.id, 2)
    assert await books.store.write(lambda c: outbox.replay(c, "msg_unknown", now_ms=1)) is None


async def test_the_log_is_listed_by_account_and_prediction_newest_first(post: Post, books: Books) -> None:
    other = await Books.begin(books.store)
    one, two = await post.begin(), await post.begin()
    await post.tell(one, START)
    post.now_ms += 1
    await post.tell(two, START)
    assert [each.prediction_id for each in await post.log(account_id=books.account.id)] == [two.id, one.id]
    assert [each.prediction_id for each in await post.log(prediction_id=one.id)] == [one.id]
    assert await post.log(account_id=other.account.id) == []
    (newest,) = await books.store.read(lambda c: outbox.deliveries(c, limit=1))
    assert newest.prediction_id == two.id


async def test_old_deliveries_are_purged_except_pending_ones(post: Post, books: Books) -> None:
    for _ in range(3):
        await post.tell(await post.begin(), START, COMPLETED)
    await post.send()
    later = NOON + DAY

    async def forget(limit: int, before_ms: int = later) -> int:
        return await books.store.write(lambda c: outbox.purge(c, before_ms=before_ms, limit=limit))

    assert await forget(9, NOON) == 0
    assert [await forget(2), await forget(2), await forget(2)] == [2, 1, 0]
    assert {each.event for each in await post.log()} == {COMPLETED}
