"""Webhook signing secrets, the delivery log and redelivery. `delivery` sends the messages.

Secrets are not stored: each is derived from the server's pepper and the account's salt when a message is signed. A copy
of the database is therefore not enough to forge signatures.
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
"""Renders the JSON body of a webhook, in the format in which the prediction's door returns predictions."""

DEFAULT_EVENTS: Final = frozenset({WebhookEvent.OUTPUT, WebhookEvent.COMPLETED})
"""Events of a webhook without an events filter; the same default as Replicate's."""
OVERLAP_S: Final = 24 * 3600
"""How long messages are also signed with the previous secret after a rotation."""
_SALT_BYTES: Final = 32


def check_webhook(webhook: Webhook | None) -> None:
    """Refuse a webhook URL that is malformed or never allowed. Its address is resolved and checked when it is called.

    Raises:
        InvalidRequest: the URL is refused; ``param`` is ``webhook``.
    """
    if webhook is None:
        return
    try:
        parse_target(webhook.url)
    except EgressRefused as refused:
        raise InvalidRequest(str(refused), param="webhook") from None


def as_of_event(prediction: Prediction, event: WebhookEvent) -> Prediction:
    """Return the prediction as it was at *event*: still processing, unless the event is ``completed``.

    ``start`` also has no output.
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
    """Derives signing secrets, signs messages, and reads and replays the delivery log."""

    def __init__(self, store: Store, *, pepper: bytes, clock: Callable[[], float]) -> None:
        """Create the service.

        Args:
            store: holds salts and deliveries.
            pepper: the server's secret, also used for API keys.
            clock: returns Unix time in seconds.

        Raises:
            ValueError: the pepper is shorter than 32 bytes, which would make the secrets guessable.
        """
        if len(pepper) < hashlib.sha256().digest_size:
            raise ValueError("the pepper must have at least 32 bytes")
        self._store = store
        self._pepper = pepper
        self._clock = clock

    async def secret(self, account_id: str) -> str:
        """Get the account's signing secret; the first call creates it."""
        return self._derive_secret(account_id, (await self._salts(account_id)).current)

    async def rotate(self, account_id: str) -> str:
        """Replace the signing secret. The previous one stays valid for OVERLAP_S; older ones become invalid."""
        fresh, now_ms = secrets.token_bytes(_SALT_BYTES), self._now_ms()
        rotate = partial(webhook_secrets.rotate, account_id=account_id, fresh=fresh, now_ms=now_ms)
        return self._derive_secret(account_id, (await self._store.write(rotate)).current)

    async def deliveries(
        self, account_id: str | None = None, *, prediction_id: str | None = None, limit: int = outbox.PAGE
    ) -> list[Delivery]:
        """List deliveries, newest first, at most 100; of every account if *account_id* is None."""
        find = partial(outbox.deliveries, account_id=account_id, prediction_id=prediction_id, limit=limit)
        return await self._store.read(find)

    async def replay(self, delivery_id: str, *, account_id: str | None = None) -> Delivery:
        """Schedule a delivery to be sent again with the same id; of any account if *account_id* is None.

        The body is rendered again: the prediction as it is then, without its text if that was purged.

        Raises:
            NotFound: there is no such delivery, or it belongs to another account.
        """
        again = partial(outbox.replay, delivery_id=delivery_id, account_id=account_id, now_ms=self._now_ms())
        replayed = await self._store.write(again)
        if replayed is None:
            raise NotFound(f"There is no delivery '{delivery_id}'.")
        return replayed

    async def sign(self, account_id: str, *, webhook_id: str, body: bytes) -> dict[str, str]:
        """Create the signature headers for *body*."""
        valid = await self._valid_secrets(account_id)
        return signed_headers(valid, webhook_id=webhook_id, timestamp_s=int(self._clock()), body=body)

    async def _valid_secrets(self, account_id: str) -> Sequence[str]:
        salts = await self._salts(account_id)
        current = self._derive_secret(account_id, salts.current)
        if salts.previous is None or self._now_ms() >= (salts.rotated_at_ms or 0) + 1000 * OVERLAP_S:
            return [current]
        return [current, self._derive_secret(account_id, salts.previous)]

    async def _salts(self, account_id: str) -> webhook_secrets.Salts:
        if (found := await self._store.read(partial(webhook_secrets.salts, account_id=account_id))) is not None:
            return found
        fresh, now_ms = secrets.token_bytes(_SALT_BYTES), self._now_ms()
        return await self._store.write(
            partial(webhook_secrets.ensure, account_id=account_id, fresh=fresh, now_ms=now_ms)
        )

    def _derive_secret(self, account_id: str, salt: bytes) -> str:
        about = b"webhook-secret\0" + account_id.encode() + b"\0" + salt
        return spell_secret(hmac.digest(self._pepper, about, hashlib.sha256))

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)
