"""Test harness of webhook delivery: a deliverer over a store, with a renderer and short retry delays."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from ipaddress import ip_network
from typing import Any

import orjson

from corral.core.prediction import Prediction, Webhook, WebhookEvent
from corral.core.webhooks import Delivery, DeliveryState
from corral.egress.addresses import AddressPolicy
from corral.egress.sender import PinnedSender, SendLimits
from corral.service.webhooks.delivery import Deliverer, DeliveryPolicy
from corral.service.webhooks.webhooks import Webhooks
from corral.store.runs import predictions
from corral.store.store import Store
from tests.contract.store.books import NOON

PEPPER = b"p" * 32
LOOPBACK = AddressPolicy([ip_network("127.0.0.0/8")])
QUICK = DeliveryPolicy(retry_delays_s=(0.02, 0.02), poll_s=0.02, shutdown_grace_s=0.1)
START, OUTPUT, LOGS, COMPLETED = WebhookEvent


class Clock:
    """Unix time in seconds: NOON at the start, plus *ahead_s*."""

    def __init__(self) -> None:
        self.ahead_s = 0.0
        self._began_s = time.monotonic()

    def __call__(self) -> float:
        return NOON / 1000 + time.monotonic() - self._began_s + self.ahead_s


def hook(url: str, *events: WebhookEvent) -> Webhook:
    """Webhook with *events*, by default all."""
    return Webhook(url=url, events=frozenset(events or WebhookEvent))


def render(prediction: Prediction, event: WebhookEvent) -> bytes:
    """Render a body that shows the event and the prediction's state."""
    shown: dict[str, Any] = {"event": event, "id": prediction.id, "status": prediction.status}
    ended = prediction.completed_at_ms is not None
    return orjson.dumps({**shown, "output": prediction.texts, "ended": ended})


@asynccontextmanager
async def delivering(
    store: Store,
    *,
    clock: Callable[[], float],
    policy: DeliveryPolicy = QUICK,
    sender: PinnedSender | None = None,
    find: Callable[[str], Awaitable[Prediction]] | None = None,
    wake: asyncio.Event | None = None,
    door: str = "openai",
) -> AsyncIterator[Webhooks]:
    """Deliver what is due in *store* while the block is active."""

    async def stored(prediction_id: str) -> Prediction:
        return await store.read(partial(predictions.find, prediction_id=prediction_id))

    webhooks = Webhooks(store, pepper=PEPPER, clock=clock)
    deliverer = Deliverer(
        store=store,
        sender=sender or sending(),
        webhooks=webhooks,
        find=find or stored,
        renderers={door: render},
        clock=clock,
        wake=wake or asyncio.Event(),
        policy=policy,
    )
    async with deliverer.run():
        yield webhooks


def sending(policy: AddressPolicy = LOOPBACK, *, total_s: float = 5, **parts: Any) -> PinnedSender:
    """Sender that may connect to loopback."""
    return PinnedSender(policy, user_agent="corral/test", limits=SendLimits(connect_s=2, total_s=total_s), **parts)


async def ended(webhooks: Webhooks, count: int = 1, **which: Any) -> Sequence[Delivery]:
    """Wait until *count* deliveries have ended; return the log, oldest first."""
    async with asyncio.timeout(60):
        while True:
            log = await webhooks.deliveries(**which)
            if sum(each.state is not DeliveryState.PENDING for each in log) >= count:
                return log[::-1]
            await asyncio.sleep(0.01)
