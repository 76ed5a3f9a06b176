"""Webhook payloads: the response body that the caller would have received."""

import orjson

from corral.api.doors.deepinfra.answers import from_prediction
from corral.api.doors.deepinfra.inference import DOOR
from corral.core.prediction import Prediction, Status, WebhookEvent

__all__ = ["DOOR", "render"]


def render(prediction: Prediction, _event: WebhookEvent) -> bytes:
    """Build the body of ``completed``, the only event of this API."""
    body = dict(from_prediction(prediction))
    if prediction.status is not Status.SUCCEEDED:
        body["error"] = prediction.error or f"The prediction was {prediction.status}."
    return orjson.dumps(body)
