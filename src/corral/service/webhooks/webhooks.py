"""Webhooks as their owners see them: secrets, the log of deliveries, sending one again. Sends nothing itself.

A secret is not stored. It is made anew from the server's pepper and the account's salt whenever something is signed, so
that a copy of the database alone forges nothing.
"""

import hashlib
import hmac
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from corral.core.errors import InvalidRequest, NotFound
from corral.core.prediction import Prediction, Status, Webhook, WebhookEvent
from corral.core.webhooks import Delivery
from corral.egress.failures import EgressRefused
from corral.egress.signature import signed_headers, spell_secret
from corral.egress.urls import parse_target
from corral.store.store import Store
from corral.store.webhooks import outbox
from corral.store.webhooks import secrets as webhook_secrets

Renderer = Callable[[Prediction, WebhookEvent], bytes]
"""A door's way to make the body of a webhook of one of its predictions: JSON, as its callers know it from reading."""

DEFAULT_EVENTS: Final = frozenset({WebhookEvent.OUTPUT, WebhookEvent.COMPLETED})
"""For callers who name none: "new outputs or when the prediction has finished", as Replicate's documentation has it."""
OVERLAP_S: Final = 24 * 3600
"""For which a secret that was rotated away signs as well."""
_SALT_BYTES: Final = 32


def check_webhook(webhook: Webhook | None) -> None:
    """Refuse a URL that nothing could ever be sent to. Where it leads is looked at when something is sent.

    Raises:
        InvalidRequest: of ``webhook``.
    """
    if webhook is None:
        return
    try:
        parse_target(webhook.url)
    except EgressRefused as refused:
        raise InvalidRequest(str(refused), param="webhook") from None


def told_of(prediction: Prediction, event: WebhookEvent) -> Prediction:
    """The prediction as the event tells of it: one that is over by now was not when it wrote.

    ``start`` shows it running and without output.
    """
    if event is WebhookEvent.COMPLETED:
        return prediction
    running = prediction
    if prediction.status is not Status.PROCESSING:
        running = replace(
            prediction,
            status=Status.PROCESSING,
            error=None,
            cost_nusd=None,
            stopped_by=None,
            receipt=None,
            completed_at_ms=None,
        )
    return replace(running, output=None, completion_tokens=0) if event is WebhookEvent.START else running


class Webhooks:
    """One store's webhooks."""

    def __init__(self, store: Store, *, pepper: bytes, clock: Callable[[], float]) -> None:
        """Take the store over.

        Args:
            store: where everything is kept.
            pepper: of the server's data directory; the same as for API keys.
            clock: Unix time in seconds.

        Raises:
            ValueError: the pepper is shorter than 32 bytes; without it secrets could be guessed.
        """
        if len(pepper) < hashlib.sha256().digest_size:
            raise ValueError("the pepper must have at least 32 bytes")
        self._store = store
        self._pepper = pepper
        self._clock = clock

    async def secret(self, account_id: str) -> str:
        """What the account's receivers check signatures with; made when it is first asked for."""
        return self._spell(account_id, (await self._salts(account_id)).current)

    async def rotate(self, account_id: str) -> str:
        """A new secret. The one so far signs as well for OVERLAP_S, the one before it no more."""
        fresh, now_ms = secrets.token_bytes(_SALT_BYTES), self._now_ms()
        rotate = partial(webhook_secrets.rotate, account_id=account_id, fresh=fresh, now_ms=now_ms)
        return self._spell(account_id, (await self._store.write(rotate)).current)

    async def deliveries(
        self, account_id: str | None = None, *, prediction_id: str | None = None, limit: int = outbox.PAGE
    ) -> list[Delivery]:
        """The log, newest first, at most 100 of it; an account of None is any."""
        find = partial(outbox.deliveries, account_id=account_id, prediction_id=prediction_id, limit=limit)
        return await self._store.read(find)

    async def replay(self, delivery_id: str, *, account_id: str | None = None) -> Delivery:
        """Have a delivery sent once more, under its id; an account of None is any.

        What is sent is made anew: the prediction as it stands by then, its text only for as long as that is kept.

        Raises:
            NotFound: there is no such delivery, or the account has none.
        """
        again = partial(outbox.replay, delivery_id=delivery_id, account_id=account_id, now_ms=self._now_ms())
        replayed = await self._store.write(again)
        if replayed is None:
            raise NotFound(f"There is no delivery '{delivery_id}'.")
        return replayed

    async def sign(self, account_id: str, *, webhook_id: str, body: bytes) -> dict[str, str]:
        """The headers that prove to the account's receivers from whom *body* is."""
        valid = await self._valid_secrets(account_id)
        return signed_headers(valid, webhook_id=webhook_id, timestamp_s=int(self._clock()), body=body)

    async def _valid_secrets(self, account_id: str) -> Sequence[str]:
        salts = await self._salts(account_id)
        current = self._spell(account_id, salts.current)
        if salts.previous is None or self._now_ms() >= (salts.rotated_at_ms or 0) + 1000 * OVERLAP_S:
            return [current]
        return [current, self._spell(account_id, salts.previous)]

    async def _salts(self, account_id: str) -> webhook_secrets.Salts:
        if (found := await self._store.read(partial(webhook_secrets.salts, account_id=account_id))) is not None:
            return found
        fresh, now_ms = secrets.token_bytes(_SALT_BYTES), self._now_ms()
        return await self._store.write(
            partial(webhook_secrets.ensure, account_id=account_id, fresh=fresh, now_ms=now_ms)
        )

    def _spell(self, account_id: str, salt: bytes) -> str:
        about = b"webhook-secret\0" + account_id.encode() + b"\0" + salt
        return spell_secret(hmac.digest(self._pepper, about, hashlib.sha256))

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)
