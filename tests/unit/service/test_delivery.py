"""Outcome of webhook deliveries by the receiver's behaviour, as in the table of docs/webhooks.md, on real sockets."""

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address
from itertools import pairwise
from pathlib import Path

import pytest
import trustme

from corral.core.errors import InvalidRequest
from corral.core.prediction import Prediction
from corral.core.webhooks import Delivery
from corral.egress.addresses import Address, AddressPolicy
from corral.service.webhooks.delivery import DeliveryPolicy
from corral.service.webhooks.webhooks import OVERLAP_S, Webhooks
from corral.store.store import Store
from corral.store.webhooks import outbox
from corral.store.webhooks.outbox import WebhookTarget
from tests.contract.store.books import Books
from tests.official_validators import check, needs_node, node_says
from tests.receiver import Behaviour, Receiver, answer, babble, hang, hang_up, receiving
from tests.unit.service.webhook_harness import (
    COMPLETED,
    LOOPBACK,
    OUTPUT,
    QUICK,
    START,
    Clock,
    delivering,
    ended,
    hook,
    sending,
)

pytestmark = pytest.mark.anyio

PAGE = Path(__file__).parents[3] / "docs" / "webhooks.md"
TRIES = 1 + len(QUICK.retry_delays_s)


@pytest.fixture
async def books(database: Path) -> AsyncIterator[Books]:
    store = Store.open(f"sqlite:///{database}")
    yield await Books.begin(store)
    await store.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def enqueue(books: Books, url: str, *events: object, clock: Clock) -> Prediction:
    """Create a prediction and enqueue deliveries of *events* to *url*."""
    prediction = await books.claim(webhook=hook(url))
    target = WebhookTarget(prediction_id=prediction.id, account_id=prediction.account_id, webhook=hook(url, *events))
    now_ms = int(clock() * 1000)
    await books.store.write(lambda c: outbox.enqueue(c, target, events, now_ms=now_ms))
    return prediction


Outcome = tuple[str, int, int | str | None]
"""State, attempts, and the last status or error."""


def outcome(delivery: Delivery) -> Outcome:
    return delivery.state.value, delivery.attempts, delivery.last_status or delivery.last_error


@asynccontextmanager
async def slow(receiver: Receiver) -> AsyncIterator[tuple[str, dict[str, object]]]:
    receiver.answers += [hang] * TRIES
    yield receiver.url, {"total_s": 0.1}


@asynccontextmanager
async def down(_receiver: Receiver) -> AsyncIterator[tuple[str, dict[str, object]]]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}", {}


@asynccontextmanager
async def redirecting(receiver: Receiver) -> AsyncIterator[tuple[str, dict[str, object]]]:
    async with receiving() as elsewhere:
        receiver.answers += [answer(307, f"Location: {elsewhere.url}/")] * TRIES
        yield receiver.url, {}
        assert elsewhere.connections == 0


@asynccontextmanager
async def private(receiver: Receiver) -> AsyncIterator[tuple[str, dict[str, object]]]:
    async def resolve(_host: str, _port: int) -> Sequence[Address]:
        return [ip_address("127.0.0.1")]

    yield f"http://hooks.example:{receiver.port}", {"policy": AddressPolicy(), "resolve": resolve}
    assert receiver.connections == 0


def answering(*answers: bytes | Behaviour) -> Callable[[Receiver], object]:
    @asynccontextmanager
    async def situation(receiver: Receiver) -> AsyncIterator[tuple[str, dict[str, object]]]:
        receiver.answers += answers
        yield receiver.url, {}

    return situation


@asynccontextmanager
async def bad_certificate(_receiver: Receiver) -> AsyncIterator[tuple[str, dict[str, object]]]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("hooks.example").configure_cert(context)
    async with receiving(context) as receiver:
        yield receiver.url, {}
        assert receiver.received == []


TABLE: dict[str, tuple[Callable[[Receiver], object], Outcome]] = {
    "slow": (slow, ("failed", TRIES, "timeout")),
    "down": (down, ("failed", TRIES, "no_connection")),
    "redirecting": (redirecting, ("failed", TRIES, 307)),
    "at a private address": (private, ("refused", 1, "forbidden_address")),
    "answering 500": (answering(*[answer(500)] * TRIES), ("failed", TRIES, 500)),
    "answering 500, then 200": (answering(answer(500), answer(500)), ("delivered", 3, 200)),
    "answering 4xx": (answering(*[answer(404)] * TRIES), ("failed", TRIES, 404)),
    "answering without end": (answering(babble), ("delivered", 1, 200)),
    "closing early": (answering(*[hang_up] * TRIES), ("failed", TRIES, "closed")),
    "not speaking HTTP": (answering(*[b"220 mail ready\r\n\r\n"] * TRIES), ("failed", TRIES, "not_http")),
    "without a good certificate": (bad_certificate, ("failed", TRIES, "bad_tls")),
}


@pytest.mark.parametrize("which", TABLE)
async def test_outcome_of_a_delivery_to_a_receiver_that_is(which: str, books: Books, clock: Clock) -> None:
    situation, expected = TABLE[which]
    async with receiving() as receiver, situation(receiver) as (url, parts):
        prediction = await enqueue(books, url, COMPLETED, clock=clock)
        async with delivering(books.store, clock=clock, sender=sending(**{"policy": LOOPBACK, **parts})) as webhooks:
            (delivery,) = await ended(webhooks)
    assert outcome(delivery) == expected
    assert delivery.prediction_id == prediction.id
    assert len({each.headers["webhook-id"] for each in receiver.received}) <= 1


def test_docs_have_a_row_for_each_receiver() -> None:
    rows = re.findall(r"^\| ([^|]+?) +\|", PAGE.read_text(), flags=re.MULTILINE)
    assert set(TABLE) <= set(rows)


async def test_signature_is_accepted_by_the_official_python_client(books: Books, clock: Clock) -> None:
    async with receiving() as receiver, delivering(books.store, clock=clock) as webhooks:
        receiver.answers.append(answer(503))
        prediction = await enqueue(books, receiver.url, COMPLETED, clock=clock)
        requests = await receiver.until(2)
        secret = await webhooks.secret(books.account.id)
        for each in requests:
            check(each.headers, each.body, secret)
            assert each.headers["content-type"] == "application/json"
            assert each.json()["id"] == prediction.id
        assert requests[0].headers["webhook-id"] == requests[1].headers["webhook-id"]


@needs_node
async def test_signature_is_accepted_by_the_official_node_client(books: Books, clock: Clock) -> None:
    async with receiving() as receiver, delivering(books.store, clock=clock) as webhooks:
        await enqueue(books, receiver.url, COMPLETED, clock=clock)
        (received,) = await receiver.until(1)
        secrets = [await webhooks.secret(books.account.id), "whsec_" + "A" * 32]
        accepted = await asyncio.to_thread(node_says, received.headers, received.body, secrets)
    assert accepted == [True, False]


async def test_both_secrets_sign_for_a_day_after_a_rotation(books: Books, clock: Clock) -> None:
    async with receiving() as receiver, delivering(books.store, clock=clock) as webhooks:
        secrets = [await webhooks.secret(books.account.id)]
        secrets.append(await webhooks.rotate(books.account.id))
        assert secrets[1] == await webhooks.secret(books.account.id) != secrets[0]
        for count, (ahead_s, valid) in enumerate([(0, [1, 0]), (OVERLAP_S, [1])], start=1):
            clock.ahead_s = ahead_s
            await enqueue(books, receiver.url, COMPLETED, clock=clock)
            last = (await receiver.until(count))[-1]
            signatures = last.headers["webhook-signature"].split(" ")
            assert len(signatures) == len(valid)
            for index, signature in zip(valid, signatures, strict=True):
                alone = {**last.headers, "webhook-signature": signature}
                check(alone, last.body, secrets[index])


async def test_secrets_differ_by_account_and_by_pepper(books: Books, clock: Clock) -> None:
    webhooks = Webhooks(books.store, pepper=b"p" * 32, clock=clock)
    other = await Books.begin(books.store)
    assert await webhooks.secret(books.account.id) != await webhooks.secret(other.account.id)
    elsewhere = Webhooks(books.store, pepper=b"q" * 32, clock=clock)
    assert await elsewhere.secret(books.account.id) != await webhooks.secret(books.account.id)
    with pytest.raises(ValueError, match="32 bytes"):
        Webhooks(books.store, pepper=b"", clock=clock)


async def test_events_before_completed_are_sent_once(books: Books, clock: Clock) -> None:
    async with receiving() as receiver, delivering(books.store, clock=clock) as webhooks:
        receiver.answers += [answer(500), answer(500)]
        await enqueue(books, receiver.url, START, OUTPUT, COMPLETED, clock=clock)
        log = await ended(webhooks, 3)
    assert [(each.event, *outcome(each)) for each in log] == [
        (START, "failed", 1, 500), (OUTPUT, "failed", 1, 500), (COMPLETED, "delivered", 1, 200),
    ]  # fmt: skip
    assert [each.json()["event"] for each in receiver.received] == ["start", "output", "completed"]


async def test_output_events_are_at_least_half_a_second_apart(books: Books, clock: Clock) -> None:
    async with receiving() as receiver, delivering(books.store, clock=clock):
        prediction = await books.claim(webhook=hook(receiver.url))
        target = WebhookTarget(
            prediction_id=prediction.id, account_id=prediction.account_id, webhook=hook(receiver.url)
        )
        async with asyncio.timeout(60):
            while len(receiver.received) < 3:
                now_ms = int(clock() * 1000)
                await books.store.write(lambda c, at=now_ms: outbox.enqueue(c, target, [OUTPUT], now_ms=at))
                await asyncio.sleep(0.05)
    times_s = [each.at_s for each in receiver.received]
    gaps_s = [later - earlier for earlier, later in pairwise(times_s)]
    assert min(gaps_s) >= 0.499


async def test_slow_receiver_does_not_delay_other_receivers(
    books: Books, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "MAX_CANDIDATES", 5)  # fewer than are due to it
    policy = replace(QUICK, max_per_receiver=2, max_in_flight=4)
    async with receiving() as stuck, receiving() as quick:
        stuck.answers += [hang] * 10
        for _ in range(10):
            await enqueue(books, stuck.url, COMPLETED, clock=clock)
        last = await enqueue(books, quick.url, COMPLETED, clock=clock)
        async with delivering(books.store, clock=clock, policy=policy):
            (received,) = await quick.until(1)
            assert received.json()["id"] == last.id
            assert stuck.connections <= policy.max_per_receiver


async def test_deliveries_in_flight_are_limited_per_account(
    books: Books, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "MAX_CANDIDATES", 2)  # fewer than are due to it
    policy = replace(QUICK, max_per_account=2, max_in_flight=3)
    other = await Books.begin(books.store)
    async with receiving() as first, receiving() as second, receiving() as third, receiving() as others:
        for each in (first, second, third, third, third):
            each.answers.append(hang)
            await enqueue(books, each.url, COMPLETED, clock=clock)
        await enqueue(other, others.url, COMPLETED, clock=clock)
        async with delivering(books.store, clock=clock, policy=policy):
            await others.until(1)
            stuck = (first, second, third)
            async with asyncio.timeout(60):
                while sum(each.connections for each in stuck) < policy.max_per_account:
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            assert sum(each.connections for each in stuck) == policy.max_per_account


async def test_deliveries_to_one_receiver_are_concurrent_up_to_the_limit(books: Books, clock: Clock) -> None:
    policy = replace(QUICK, max_per_receiver=8)
    async with receiving() as receiver:
        receiver.answers += [hang] * 8
        for _ in range(12):
            await enqueue(books, receiver.url, COMPLETED, clock=clock)
        async with delivering(books.store, clock=clock, policy=policy):
            await receiver.until(8)
            await asyncio.sleep(0.1)
            assert receiver.connections == 8


async def test_woken_deliverer_sends_before_the_next_poll(books: Books, clock: Clock) -> None:
    wake = asyncio.Event()
    async with (
        receiving() as receiver,
        delivering(books.store, clock=clock, policy=replace(QUICK, poll_s=60), wake=wake),
    ):
        await asyncio.sleep(0.1)
        await enqueue(books, receiver.url, START, COMPLETED, clock=clock)
        wake.set()
        await receiver.until(2, within_s=60)


async def test_delivery_due_at_shutdown_is_sent_by_the_next_server(books: Books, clock: Clock) -> None:
    async with receiving() as receiver:
        receiver.answers.append(hang)
        await enqueue(books, receiver.url, COMPLETED, clock=clock)
        async with delivering(books.store, clock=clock):
            await receiver.until(1)
        (left,) = await books.store.read(outbox.deliveries)
        assert outcome(left) == ("pending", 0, None)
        async with delivering(books.store, clock=clock) as webhooks:
            (delivery,) = await ended(webhooks)
    assert outcome(delivery) == ("delivered", 1, 200)
    assert len({each.headers["webhook-id"] for each in receiver.received}) == 1


async def test_delivery_of_a_killed_server_is_sent_when_its_lease_expires(books: Books, clock: Clock) -> None:
    async with receiving() as receiver:
        await enqueue(books, receiver.url, COMPLETED, clock=clock)
        now_ms = int(clock() * 1000)
        (due,) = await books.store.read(lambda c: outbox.due(c, now_ms=now_ms))
        await books.store.write(lambda c: outbox.lease(c, [due.id], now_ms=now_ms, until_ms=now_ms + 30_000))
        async with delivering(books.store, clock=clock) as webhooks:
            await asyncio.sleep(0.1)
            assert receiver.connections == 0
            clock.ahead_s += 30
            (delivery,) = await ended(webhooks)
    assert outcome(delivery) == ("delivered", 2, 200)


async def test_replay_sends_the_same_event_with_the_same_id(books: Books, clock: Clock) -> None:
    async with receiving() as receiver, delivering(books.store, clock=clock) as webhooks:
        await enqueue(books, receiver.url, COMPLETED, clock=clock)
        (before,) = await ended(webhooks)
        with pytest.raises(InvalidRequest, match="no delivery"):
            await webhooks.replay(before.id, account_id="acct_other")
        replayed = await webhooks.replay(before.id, account_id=books.account.id)
        assert replayed.state == "pending"
        await receiver.until(2)
        (after,) = await ended(webhooks)
    assert outcome(after) == ("delivered", 2, 200)
    first, second = receiver.received
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == before.id
    assert first.body == second.body


async def test_delivery_log_stores_no_request_or_response_content(books: Books, clock: Clock, database: Path) -> None:
    async with receiving() as receiver, delivering(books.store, clock=clock) as webhooks:
        receiver.answers += [answer(500, "X-Answer: in a header", body=b"said in confidence")] * TRIES
        await enqueue(books, receiver.url, COMPLETED, clock=clock)
        await ended(webhooks)
    stored = b"".join(path.read_bytes() for path in database.parent.glob("*.db*"))
    assert b"said in confidence" not in stored
    assert b"in a header" not in stored
    assert (await webhooks.secret(books.account.id)).encode() not in stored


async def test_delivery_without_a_renderer_fails_without_delaying_others(books: Books, clock: Clock) -> None:
    async with receiving() as receiver:
        unknown = await books.claim(webhook=hook(receiver.url), door="unknown")
        target = WebhookTarget(prediction_id=unknown.id, account_id=unknown.account_id, webhook=hook(receiver.url))
        now_ms = int(clock() * 1000)
        await books.store.write(lambda c: outbox.enqueue(c, target, [START, COMPLETED], now_ms=now_ms))
        await enqueue(books, receiver.url, COMPLETED, clock=clock)
        async with delivering(books.store, clock=clock) as webhooks:
            log = await ended(webhooks, 3)
    assert sorted(map(outcome, log)) == [
        ("delivered", 1, 200), ("failed", 1, "not_rendered"), ("failed", TRIES, "not_rendered"),
    ]  # fmt: skip


async def test_delivery_log_is_purged_after_its_retention(books: Books, clock: Clock) -> None:
    async with receiving() as receiver:
        await enqueue(books, receiver.url, COMPLETED, clock=clock)
        async with delivering(books.store, clock=clock) as webhooks:
            await ended(webhooks)
        clock.ahead_s += DeliveryPolicy().log_retention_s + 60
        async with delivering(books.store, clock=clock) as webhooks, asyncio.timeout(60):
            while await webhooks.deliveries():
                await asyncio.sleep(0.01)


def test_last_attempt_starts_about_a_minute_after_the_event() -> None:
    policy = DeliveryPolicy()
    assert 55 <= sum(policy.retry_delays_s) <= 70
    assert policy.jitter > 0
    assert all(
        later >= 2 * earlier for earlier, later in zip(policy.retry_delays_s, policy.retry_delays_s[1:], strict=False)
    )
