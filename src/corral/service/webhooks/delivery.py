"""Webhook delivery: sends messages from the outbox, with retries and limits per receiver and account.

Messages are rows in the database, so none is lost when this process dies; a message that was being sent is sent again
when its lease expires. Delivery is therefore at least once: a receiver may get a message twice.
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
from corral.service.webhooks.webhooks import Renderer, Webhooks, as_of_event
from corral.store.databases.failures import StoreFailed
from corral.store.store import Store
from corral.store.webhooks import outbox
from corral.store.webhooks.outbox import Due, Leased

_log = structlog.get_logger(__name__)

_NOT_RENDERED: Final = "not_rendered"
_PURGE_INTERVAL_S: Final = 60.0


class Sender(Protocol):
    """Sends one HTTP POST without retrying. Implemented by ``corral.egress.sender.PinnedSender``."""

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Sent:
        """Send a POST request and return the receiver's response.

        Raises:
            EgressRefused: the URL or its address is not allowed; retrying is useless.
            EgressFailed: no response was received.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryPolicy:
    """Retries, concurrency limits and timeouts of webhook delivery."""

    retry_delays_s: tuple[float, ...] = (1, 2, 4, 8, 16, 32)
    """Delay before each retry of a ``completed`` event; the last retry starts about a minute after the end. Other
    events are sent once, because a later event carries the same data."""
    jitter: float = 0.2
    """Each delay is changed at random by up to this fraction, so that deliveries that failed together are spread."""
    max_in_flight: int = 64
    max_per_account: int = 32
    max_per_receiver: int = 8
    lease_s: float = 15.0
    """Longer than an attempt can take. When it expires, another gateway may send the message."""
    poll_s: float = 0.25
    """Interval between queries for due deliveries when this process creates none."""
    shutdown_grace_s: float = 2.0
    """How long a stopping server waits for deliveries in progress."""
    log_retention_s: float = 30 * 86400
    """How long finished deliveries stay in the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """Result of one attempt to deliver."""

    state: DeliveryState
    status: int | None = None
    error: str | None = None


class Deliverer:
    """Background task that sends due deliveries and purges old ones from the log."""

    def __init__(
        self,
        *,
        store: Store,
        sender: Sender,
        webhooks: Webhooks,
        find: Callable[[str], Awaitable[Prediction]],
        renderers: Mapping[str, Renderer],
        clock: Callable[[], float],
        wake: asyncio.Event,
        policy: DeliveryPolicy | None = None,
    ) -> None:
        """Create the deliverer; `run` starts it.

        Args:
            store: holds the outbox.
            sender: sends the requests.
            webhooks: signs the requests.
            find: gets a prediction by its id.
            renderers: body renderers by door name.
            clock: returns Unix time in seconds.
            wake: set when a delivery becomes due, so that it is sent before the next poll.
            policy: retries, concurrency limits and timeouts.
        """
        self._store = store
        self._sender = sender
        self._webhooks = webhooks
        self._find = find
        self._renderers = renderers
        self._clock = clock
        self._policy = policy or DeliveryPolicy()
        self._wake = wake
        self._in_flight: dict[asyncio.Task[None], Leased] = {}

    @asynccontextmanager
    async def run(self) -> AsyncGenerator[None]:
        """Deliver while the block is active. Undelivered messages stay due for the next start."""
        async with asyncio.TaskGroup() as tasks:
            running = (tasks.create_task(self._deliver(tasks)), tasks.create_task(self._purge_log()))
            try:
                yield
            finally:
                for task in running:
                    task.cancel()
                await asyncio.wait(running)
                await self._shut_down()

    async def _deliver(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            self._wake.clear()
            try:
                leases = await self._lease_due()
            except (CorralError, StoreFailed) as error:
                _log.warning("outbox_poll_failed", reason=str(error))
                leases = []
            for leased in leases:
                task = tasks.create_task(self._attempt(leased))
                self._in_flight[task] = leased
                task.add_done_callback(self._on_attempt_done)
            if not leases:
                try:
                    async with asyncio.timeout(self._policy.poll_s):
                        await self._wake.wait()
                except TimeoutError:
                    pass

    async def _lease_due(self) -> list[Leased]:
        """Lease as many due deliveries as the concurrency limits allow."""
        policy, now_ms = self._policy, self._now_ms()
        if len(self._in_flight) >= policy.max_in_flight:
            return []
        receivers = Counter(each.receiver for each in self._in_flight.values())
        accounts = Counter(each.account_id for each in self._in_flight.values())
        find = partial(
            outbox.due,
            now_ms=now_ms,
            busy_receivers=[name for name, count in receivers.items() if count >= policy.max_per_receiver],
            busy_accounts=[name for name, count in accounts.items() if count >= policy.max_per_account],
        )
        chosen = self._choose(await self._store.read(find), receivers, accounts)
        if not chosen:
            return []
        until_ms = now_ms + int(1000 * policy.lease_s)
        return await self._store.write(partial(outbox.lease, ids=chosen, now_ms=now_ms, until_ms=until_ms))

    def _choose(self, found: list[Due], receivers: Counter[str], accounts: Counter[str]) -> list[str]:
        """Choose deliveries within the limits: in total, per receiver and per account."""
        policy, chosen = self._policy, list[str]()
        for each in found:
            if len(self._in_flight) + len(chosen) >= policy.max_in_flight:
                break
            if (
                receivers[each.receiver] < policy.max_per_receiver
                and accounts[each.account_id] < policy.max_per_account
            ):
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
        except Exception as error:  # noqa: BLE001 - task boundary: the lease expires and the delivery is retried
            _log.warning("delivery_interrupted", delivery=leased.id, reason=type(error).__name__)

    async def _send(self, leased: Leased) -> _Outcome:
        prediction = await self._find(leased.prediction_id)
        try:
            body = self._renderers[prediction.door](as_of_event(prediction, leased.event), leased.event)
        except Exception as error:  # noqa: BLE001 - one failed rendering must not stop others
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
        return delay_s * (1 + self._policy.jitter * random.uniform(-1, 1))  # noqa: S311 - not for security

    def _on_attempt_done(self, task: asyncio.Task[None]) -> None:
        # A cancelled attempt stays in flight, so that ``_shut_down`` releases its lease.
        if not task.cancelled():
            del self._in_flight[task]
            self._wake.set()

    async def _shut_down(self) -> None:
        """Wait `shutdown_grace_s` for deliveries in progress, cancel the rest and release their leases."""
        if self._in_flight:
            _, unfinished = await asyncio.wait(self._in_flight, timeout=self._policy.shutdown_grace_s)
            for task in unfinished:
                task.cancel()
            if unfinished:
                await asyncio.wait(unfinished)
        try:
            for leased in self._in_flight.values():
                await self._store.write(partial(outbox.release, leased=leased))
        except (CorralError, StoreFailed) as error:
            _log.warning("delivery_release_failed", reason=str(error))

    async def _purge_log(self) -> None:
        """Delete deliveries older than `log_retention_s` from the log, once a minute."""
        while True:
            before_ms = self._now_ms() - int(1000 * self._policy.log_retention_s)
            try:
                while await self._store.write(partial(outbox.purge, before_ms=before_ms)):
                    pass
            except (CorralError, StoreFailed) as error:
                _log.warning("purge_failed", reason=str(error))
            await asyncio.sleep(_PURGE_INTERVAL_S)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)
