"""Sends what is in the outbox: each receiver at its own pace, nobody waiting for another, and again after a failure.

What is due is in the database, so nothing is lost with this process; what it was sending when it died is sent again
when its lease is over. A receiver may therefore get a message twice, but none less than once.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

import structlog

from corral.core.errors import CorralError
from corral.core.prediction import Prediction, WebhookEvent
from corral.core.webhooks import DeliveryState
from corral.egress.failures import EgressFailed, EgressRefused
from corral.egress.sender import Sent
from corral.service.webhooks.webhooks import Renderer, Webhooks, told_of
from corral.store.databases.failures import StoreFailed
from corral.store.store import Store
from corral.store.webhooks import outbox
from corral.store.webhooks.outbox import Due, Leased

_log = structlog.get_logger(__name__)

_NOT_RENDERED: Final = "not_rendered"
_FORGET_INTERVAL_S: Final = 60.0


class Sender(Protocol):
    """Posts once; ``corral.egress.sender.PinnedSender``."""

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Sent:
        """The receiver's answer.

        Raises:
            EgressRefused: nothing will ever be sent there.
            EgressFailed: no answer.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryPolicy:
    """How often, how many at once, how long."""

    retry_delays_s: tuple[float, ...] = (1, 2, 4, 8, 16, 32)
    """Before each further attempt to deliver ``completed``: the last begins about a minute after the end. Other events
    are tried once, for a later one makes up for them."""
    jitter: float = 0.2
    """Each delay is longer or shorter by up to this part of it: what failed together is not retried together."""
    at_once: int = 64
    per_account: int = 32
    per_receiver: int = 8
    lease_s: float = 15.0
    """More than an attempt can take; after it another gateway sends."""
    poll_s: float = 0.25
    """Between two looks at what is due, if nothing happens in this process."""
    leave_s: float = 2.0
    """For what is being sent when the server stops."""
    kept_s: float = 30 * 86400
    """For which deliveries stay in the log after their end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    state: DeliveryState
    status: int | None = None
    error: str | None = None


class Deliverer:
    """Delivers for as long as it runs."""

    def __init__(
        self,
        *,
        store: Store,
        sender: Sender,
        webhooks: Webhooks,
        find: Callable[[str], Awaitable[Prediction]],
        renderers: Mapping[str, Renderer],
        clock: Callable[[], float],
        news: asyncio.Event,
        policy: DeliveryPolicy | None = None,
    ) -> None:
        """Put together; nothing happens before ``run``.

        Args:
            store: where what is due is kept.
            sender: what posts.
            webhooks: what signs.
            find: a prediction by its id, as it stands.
            renderers: of each door that has webhooks, by its name.
            clock: Unix time in seconds.
            news: set by whoever knows that something is due, so that it need not wait for the next look.
            policy: how often, how many at once, how long.
        """
        self._store = store
        self._sender = sender
        self._webhooks = webhooks
        self._find = find
        self._renderers = renderers
        self._clock = clock
        self._policy = policy or DeliveryPolicy()
        self._news = news
        self._in_hand: dict[asyncio.Task[None], Leased] = {}

    @asynccontextmanager
    async def run(self) -> AsyncGenerator[None]:
        """Deliver for as long as the block lasts. What is not delivered then is due for the next start."""
        async with asyncio.TaskGroup() as tasks:
            running = (tasks.create_task(self._deliver(tasks)), tasks.create_task(self._forget()))
            try:
                yield
            finally:
                for task in running:
                    task.cancel()
                await asyncio.wait(running)
                await self._leave_off()

    async def _deliver(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            self._news.clear()
            try:
                taken = await self._take()
            except (CorralError, StoreFailed) as error:
                _log.warning("deliveries_wait", reason=str(error))
                taken = []
            for leased in taken:
                task = tasks.create_task(self._attempt(leased))
                self._in_hand[task] = leased
                task.add_done_callback(self._let_go)
            if not taken:
                try:
                    async with asyncio.timeout(self._policy.poll_s):
                        await self._news.wait()
                except TimeoutError:
                    pass

    async def _take(self) -> list[Leased]:
        policy, now_ms = self._policy, self._now_ms()
        if len(self._in_hand) >= policy.at_once:
            return []
        receivers = Counter(each.receiver for each in self._in_hand.values())
        accounts = Counter(each.account_id for each in self._in_hand.values())
        find = partial(
            outbox.due,
            now_ms=now_ms,
            busy_receivers=[name for name, count in receivers.items() if count >= policy.per_receiver],
            busy_accounts=[name for name, count in accounts.items() if count >= policy.per_account],
        )
        chosen = self._choose(await self._store.read(find), receivers, accounts)
        if not chosen:
            return []
        until_ms = now_ms + int(1000 * policy.lease_s)
        return await self._store.write(partial(outbox.lease, ids=chosen, now_ms=now_ms, until_ms=until_ms))

    def _choose(self, found: list[Due], receivers: Counter[str], accounts: Counter[str]) -> list[str]:
        """As many as there is room for: in all, for each receiver, for each account."""
        policy, chosen = self._policy, list[str]()
        for each in found:
            if len(self._in_hand) + len(chosen) >= policy.at_once:
                break
            if receivers[each.receiver] < policy.per_receiver and accounts[each.account_id] < policy.per_account:
                receivers[each.receiver] += 1
                accounts[each.account_id] += 1
                chosen.append(each.id)
        return chosen

    async def _attempt(self, leased: Leased) -> None:
        try:
            outcome = await self._send(leased)
            due_ms = self._now_ms()
            if outcome.state is DeliveryState.PENDING:
                due_ms += int(1000 * self._delay_s(leased))
            finish = partial(
                outbox.finish,
                leased=leased,
                state=outcome.state,
                status=outcome.status,
                error=outcome.error,
                at_ms=due_ms,
            )
            await self._store.write(finish)
        except Exception as error:  # noqa: BLE001 - the edge of a delivery: its lease ends, and it is tried again
            _log.warning("delivery_interrupted", delivery=leased.id, reason=type(error).__name__)

    async def _send(self, leased: Leased) -> _Outcome:
        prediction = await self._find(leased.prediction_id)
        try:
            body = self._renderers[prediction.door](told_of(prediction, leased.event), leased.event)
        except Exception as error:  # noqa: BLE001 - a door that cannot tell of one prediction must not stop the others
            _log.error("webhook_not_rendered", delivery=leased.id, door=prediction.door, reason=type(error).__name__)
            return self._failed(leased, error=_NOT_RENDERED)
        signed = await self._webhooks.sign(leased.account_id, webhook_id=leased.id, body=body)
        try:
            sent = await self._sender.post(leased.url, body, {"content-type": "application/json", **signed})
        except EgressRefused as refused:
            return _Outcome(state=DeliveryState.REFUSED, error=refused.why)
        except EgressFailed as failed:
            return self._failed(leased, error=failed.why)
        if 200 <= sent.status < 300:
            return _Outcome(state=DeliveryState.DELIVERED, status=sent.status)
        return self._failed(leased, status=sent.status)

    def _failed(self, leased: Leased, *, status: int | None = None, error: str | None = None) -> _Outcome:
        again = leased.event is WebhookEvent.COMPLETED and leased.attempts <= len(self._policy.retry_delays_s)
        return _Outcome(state=DeliveryState.PENDING if again else DeliveryState.FAILED, status=status, error=error)

    def _delay_s(self, leased: Leased) -> float:
        delay_s = self._policy.retry_delays_s[leased.attempts - 1]
        return delay_s * (1 + self._policy.jitter * random.uniform(-1, 1))  # noqa: S311 - spreads, hides nothing

    def _let_go(self, task: asyncio.Task[None]) -> None:
        # One that was cut off stays, to be given back by ``_leave_off``.
        if not task.cancelled():
            del self._in_hand[task]
            self._news.set()

    async def _leave_off(self) -> None:
        """Let what is being sent come to its end for a moment, and give the rest back."""
        if self._in_hand:
            _, cut_off = await asyncio.wait(self._in_hand, timeout=self._policy.leave_s)
            for task in cut_off:
                task.cancel()
            if cut_off:
                await asyncio.wait(cut_off)
        try:
            for leased in self._in_hand.values():
                await self._store.write(partial(outbox.release, leased=leased))
        except (CorralError, StoreFailed) as error:
            _log.warning("deliveries_not_given_back", reason=str(error))

    async def _forget(self) -> None:
        while True:
            before_ms = self._now_ms() - int(1000 * self._policy.kept_s)
            try:
                while await self._store.write(partial(outbox.forget, before_ms=before_ms)):
                    pass
            except (CorralError, StoreFailed) as error:
                _log.warning("retention_waits", reason=str(error))
            await asyncio.sleep(_FORGET_INTERVAL_S)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)
