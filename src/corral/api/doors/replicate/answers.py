"""Build the prediction object: the same for GET, lists, waits and webhooks."""

from typing import Any, Final, Literal

import orjson

from corral.api.doors.replicate.chunks import shown
from corral.api.doors.replicate.logs import logs
from corral.api.doors.replicate.signed_urls import STREAM, token
from corral.api.doors.replicate.times import rfc3339
from corral.api.doors.replicate.wire import PredictionAnswer, PredictionUrls
from corral.catalog.catalog import Catalog
from corral.core.errors import UnknownModel
from corral.core.prediction import WEB, Prediction, Status, WebhookEvent

UNKNOWN_VERSION: Final = "hidden"
"""Replicate's value for a hidden version."""
ECHOED: Final = ("deployment", "webhook", "webhook_completed", "webhook_events_filter")
"""Fields of the body that the prediction object repeats if they were sent; stored in the notes."""
BASE_URL: Final = "base_url"
MODEL: Final = "model"
VERSION: Final = "version"

WireStatus = Literal["starting", "processing", "succeeded", "failed", "canceled", "aborted"]


class Answers:
    """Converts predictions of every API into Replicate's prediction object."""

    def __init__(self, catalog: Catalog, *, capability_key: bytes, aborted_status: bool = False) -> None:
        """*capability_key* signs stream URLs; *aborted_status* reports runs canceled before their start as ``aborted``.

        Args:
            catalog: names versions.
            capability_key: what stream addresses are made with.
            aborted_status: whether what was stopped before it began is told as ``aborted``; see ``status``.
        """
        self._catalog = catalog
        self._aborted_status = aborted_status
        self._key = capability_key

    def prediction(self, prediction: Prediction, *, base_url: str) -> PredictionAnswer:
        """Build the prediction object, with URLs below *base_url*."""
        notes = prediction.notes or {}
        answer: PredictionAnswer = {
            "id": prediction.id,
            "model": notes.get(MODEL, prediction.model),
            "version": notes.get(VERSION) or self._version(prediction),
            "input": {} if prediction.input is None else prediction.input["shown"],
            "output": output(prediction),
            "logs": logs(prediction),
            "error": prediction.error if prediction.status is Status.FAILED else None,
            "status": status(prediction, aborted_status=self._aborted_status),
            "created_at": rfc3339(prediction.created_at_ms),
            "started_at": _time(started_at_ms(prediction)),
            "completed_at": _time(prediction.completed_at_ms),
            "data_removed": prediction.data_removed,
            "source": "web" if prediction.door == WEB else "api",
            "metrics": metrics(prediction),
            "urls": self._urls(prediction.id, base_url),
        }
        if prediction.deadline_at_ms is not None:
            answer["deadline"] = rfc3339(prediction.deadline_at_ms)
        for name in ECHOED:
            if notes.get(name) is not None:
                answer[name] = notes[name]
        return answer

    def unfinished(self, prediction: Prediction, *, base_url: str) -> PredictionAnswer:
        """Build the object after a wait timed out: ``starting`` and without output, as Replicate's clients expect.

        The Python client takes any other status for the end, and skips what output the first answer had.
        """
        answer = self.prediction(prediction, base_url=base_url)
        return {**answer, "status": "starting", "output": None, "logs": "", "started_at": None}

    def render(self, prediction: Prediction, event: WebhookEvent) -> bytes:  # noqa: ARG002 - every renderer is told
        """Build a webhook payload: what GET would return, whatever the *event*."""
        return orjson.dumps(self.prediction(prediction, base_url=(prediction.notes or {}).get(BASE_URL, "")))

    def _version(self, prediction: Prediction) -> str:
        try:
            return self._catalog.get(prediction.model).version
        except UnknownModel:
            return UNKNOWN_VERSION

    def _urls(self, prediction_id: str, base_url: str) -> PredictionUrls:
        here = f"{base_url}/v1/predictions/{prediction_id}"
        return {
            "get": here,
            "cancel": f"{here}/cancel",
            "web": f"{base_url}/p/{prediction_id}",
            "stream": f"{base_url}/v1/streams/{prediction_id}/{token(self._key, STREAM, prediction_id)}",
        }


def output(prediction: Prediction) -> list[str] | None:
    """Chunks of the output; None before the first and after removal."""
    if prediction.output is None:
        return None
    chunks = shown(prediction.output[0])
    return chunks if chunks or prediction.status is Status.SUCCEEDED else None


def status(prediction: Prediction, *, aborted_status: bool = False) -> WireStatus:
    """Replicate's status of a prediction.

    Replicate documents ``aborted`` for what was stopped before it began. It is told only where *aborted_status* asks
    for it: Replicate's Python client 1.0.7 then fails to list any prediction, and its Node client waits for ever.
    """
    match prediction.status:
        case Status.STARTING:
            return "starting" if prediction.admitted_at_ms is None else "processing"
        case Status.PROCESSING:
            return "processing"
        case Status.SUCCEEDED:
            return "succeeded"
        case Status.FAILED:
            return "failed"
        case Status.CANCELED:
            return "aborted" if aborted_status and started_at_ms(prediction) is None else "canceled"


def metrics(prediction: Prediction) -> dict[str, Any]:
    """Times in seconds and token counts of a finished prediction; tokens only if the engine read the prompt."""
    if prediction.completed_at_ms is None:
        return {}
    begun_at_ms = started_at_ms(prediction)
    predict_time_s = 0.0 if begun_at_ms is None else (prediction.completed_at_ms - begun_at_ms) / 1000
    measured: dict[str, Any] = {
        "predict_time": predict_time_s,
        "total_time": (prediction.completed_at_ms - prediction.created_at_ms) / 1000,
    }
    if begun_at_ms is not None:
        tokens = prediction.completion_tokens
        measured["input_token_count"] = prediction.prompt_tokens
        measured["output_token_count"] = tokens
        measured["tokens_per_second"] = tokens / predict_time_s if predict_time_s else 0.0
        if prediction.started_at_ms is not None:
            measured["time_to_first_token"] = max(0, prediction.started_at_ms - begun_at_ms) / 1000
    return measured


def started_at_ms(prediction: Prediction) -> int | None:
    """When the engine admitted the run; None if it never did."""
    return prediction.started_at_ms if prediction.admitted_at_ms is None else prediction.admitted_at_ms


def _time(at_ms: int | None) -> str | None:
    return None if at_ms is None else rfc3339(at_ms)
