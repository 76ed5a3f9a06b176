"""Map `CorralError` to Replicate error responses: problem documents (RFC 9457)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from corral.api.addresses import MethodNotAllowed, UnknownAddress
from corral.api.body import BodyEncoded, BodyTooLarge, BodyTooSlow
from corral.api.doors.replicate.faults import InvalidInput, InvalidVersion, NotHere, NotOffered
from corral.api.form import NotAForm
from corral.api.json_document import NotJson
from corral.api.problems import Problem, error_headers
from corral.api.request_headers import IDEMPOTENCY_KEY, MAX_COST
from corral.core.errors import (
    Canceled,
    CorralError,
    DataRemoved,
    EngineFailed,
    EngineUnavailable,
    IdempotencyConflict,
    InsufficientCredit,
    InvalidRequest,
    LoadFailed,
    ModelLoading,
    Overloaded,
    PermissionDenied,
    RateLimited,
    ServerStopping,
    StorageUnavailable,
    Unauthenticated,
    UnknownModel,
    UnknownPrediction,
)

MEDIA_TYPE: Final = "application/problem+json"


@dataclass(frozen=True, slots=True)
class _Row:
    status: int
    title: str
    detail: str | None = None
    """Fixed text instead of the error's message, where clients know it."""


ERRORS: Mapping[type[CorralError], _Row] = {
    CorralError: _Row(500, "Internal server error"),
    InvalidRequest: _Row(422, "Input validation failed"),
    InvalidVersion: _Row(
        422,
        "Invalid version or not permitted",
        "The specified version does not exist (or perhaps you don't have permission to use it?)",
    ),
    NotJson: _Row(400, "Bad request"),
    NotAForm: _Row(400, "Bad request"),
    BodyEncoded: _Row(415, "Unsupported media type"),
    BodyTooLarge: _Row(413, "Request body too large"),
    BodyTooSlow: _Row(408, "Request timeout"),
    UnknownAddress: _Row(404, "Not found"),
    MethodNotAllowed: _Row(405, "Method not allowed"),
    UnknownModel: _Row(404, "Model not found"),
    UnknownPrediction: _Row(404, "Prediction not found"),
    NotHere: _Row(404, "Not found"),
    Unauthenticated: _Row(401, "Unauthenticated", "You did not pass a valid authentication token"),
    PermissionDenied: _Row(403, "Permission denied"),
    InsufficientCredit: _Row(402, "Insufficient credit"),
    IdempotencyConflict: _Row(409, "Idempotency conflict"),
    Canceled: _Row(409, "Canceled"),
    DataRemoved: _Row(410, "Data removed"),
    Overloaded: _Row(429, "Too busy"),
    ModelLoading: _Row(503, "Model is starting"),
    RateLimited: _Row(429, "Too many requests"),
    NotOffered: _Row(501, "Not offered"),
    EngineUnavailable: _Row(503, "Model is starting"),
    LoadFailed: _Row(503, "Model failed to load"),
    StorageUnavailable: _Row(503, "Database is not available"),
    ServerStopping: _Row(503, "Server is stopping"),
    EngineFailed: _Row(500, "Model failed"),
}
"""Response of each error class; a class without a row uses the row of its nearest base."""

_FIELDS: Final = {
    "stop": "input.stop_sequences",
    **{name: name for name in ("webhook", "content", IDEMPOTENCY_KEY, MAX_COST)},
}
"""Paths of fields by the core's names; all others are inputs."""


def from_error(error: CorralError) -> Problem:
    """Build the problem document."""
    row = next(ERRORS[kind] for kind in type(error).__mro__ if kind in ERRORS)
    body: dict[str, object] = {"title": row.title, "detail": row.detail or _detail(error), "status": row.status}
    match error:
        case InvalidInput():
            body["invalid_fields"] = [
                {"type": fault.type, "field": fault.field, "description": fault.description} for fault in error.faults
            ]
        case InvalidRequest() if row.status == 422 and error.param is not None:
            field = _FIELDS.get(error.param, f"input.{error.param}")
            body["invalid_fields"] = [{"type": "invalid", "field": field, "description": str(error)}]
        case Overloaded() | StorageUnavailable():
            body["retry_after"] = error.retry_after_s
        case _:
            pass
    return Problem(status=row.status, body=body, headers=_headers(error), media_type=MEDIA_TYPE)


def _detail(error: CorralError) -> str:
    if isinstance(error, RateLimited):
        return f"Request was throttled. Your rate limit resets in ~{error.retry_after_s}s."
    return str(error)


def _headers(error: CorralError) -> dict[str, str]:
    headers = error_headers(error)
    if isinstance(error, EngineFailed | IdempotencyConflict | Canceled):
        headers["x-should-retry"] = "false"  # the 2.x client tries a 409 and a 500 again on its own
    return headers
