"""What became of telling a caller something."""

from dataclasses import dataclass
from enum import StrEnum

from corral.core.prediction import WebhookEvent


class DeliveryState(StrEnum):
    """Where a delivery is; only a pending one is tried again by itself."""

    PENDING = "pending"
    DELIVERED = "delivered"
    """The receiver answered with 2xx."""
    FAILED = "failed"
    """Tried as often as it is, in vain."""
    REFUSED = "refused"
    """Never sent: the URL leads to where nothing is sent to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One event on its way to a receiver. Times are Unix milliseconds. What was sent or answered is not kept."""

    id: str
    """``msg_…``; the ``webhook-id`` header of every attempt."""
    account_id: str
    prediction_id: str
    event: WebhookEvent
    url: str
    state: DeliveryState
    attempts: int
    last_status: int | None
    """HTTP, of the last attempt; None if it got none."""
    last_error: str | None
    """One word, of the last attempt, where it failed without a status."""
    created_at_ms: int
    due_at_ms: int
    """Not tried before."""
    ended_at_ms: int | None
    """When it ceased to be pending."""
