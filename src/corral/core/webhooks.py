"""Webhook deliveries and their state."""

from dataclasses import dataclass
from enum import StrEnum

from corral.core.prediction import WebhookEvent


class DeliveryState(StrEnum):
    """State of a delivery; only pending ones are retried automatically."""

    PENDING = "pending"
    DELIVERED = "delivered"
    """The receiver answered with 2xx."""
    FAILED = "failed"
    """All attempts failed."""
    REFUSED = "refused"
    """Never sent: the URL or its address is not allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """Delivery of one event to a webhook. Times are Unix milliseconds. Request and response bodies are not stored."""

    id: str
    """``msg_…``; the ``webhook-id`` header of every attempt."""
    account_id: str
    prediction_id: str
    event: WebhookEvent
    url: str
    state: DeliveryState
    attempts: int
    last_status: int | None
    """HTTP status of the last attempt; None without a response."""
    last_error: str | None
    """Error code of the last attempt, if it failed without an HTTP status."""
    created_at_ms: int
    due_at_ms: int
    """Earliest time of the next attempt."""
    ended_at_ms: int | None
    """When the delivery was no longer pending."""
