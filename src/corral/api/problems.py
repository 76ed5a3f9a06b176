"""Error responses, and the log of unexpected errors."""

import secrets
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson
import structlog
from pydantic import ValidationError
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from corral.api.addresses import MethodNotAllowed
from corral.api.disconnect import ClientGone
from corral.core.errors import CorralError, EngineUnavailable, Overloaded, StorageUnavailable, Unauthenticated

_MAX_REPORTED_FAULTS = 16
_OBJECT = "Input should be an object"
"""Message for callers, who do not know this program's types."""


class Incident(CorralError):
    """Unexpected error. The caller gets an id, the log the details under that id."""

    def __init__(self) -> None:
        self.incident_id = secrets.token_hex(8)
        super().__init__(f"Internal error {self.incident_id}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Error response in the format of one API."""

    status: int
    body: Mapping[str, object]
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    media_type: str = "application/json"

    def response(self) -> Response:
        """Build the response, if none has begun."""
        return Response(orjson.dumps(self.body), self.status, headers=dict(self.headers), media_type=self.media_type)


def error_headers(error: CorralError) -> dict[str, str]:
    """Headers that every API sends with *error*: authentication scheme, allowed methods, seconds to wait."""
    match error:
        case Unauthenticated():
            return {"www-authenticate": "Bearer"}
        case MethodNotAllowed():
            return {"allow": error.allow}
        case Overloaded() | StorageUnavailable() | EngineUnavailable():
            return {"retry-after": str(error.retry_after_s)}
        case _:
            return {}


def from_validation(error: ValidationError) -> Problem:
    """Convert a validation error to FastAPI's list: location, message and type, never the value."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    detail = [
        {
            "loc": ["body", *fault["loc"]],
            "msg": _OBJECT if fault["type"] in ("model_type", "dict_type") else fault["msg"],
            "type": fault["type"],
        }
        for fault in faults[:_MAX_REPORTED_FAULTS]
    ]
    return Problem(status=422, body={"detail": detail})


def report(error: Exception) -> Incident:
    """Log an unexpected error under a new id, without its message, which may quote the caller's data.

    A client that has left is no error, wherever it is noticed.
    """
    incident = Incident()
    if isinstance(error, ClientGone | ClientDisconnect):
        structlog.get_logger(__name__).debug("client_disconnected")
        return incident
    structlog.get_logger(__name__).error(
        "request_failed",
        incident_id=incident.incident_id,
        error_type=type(error).__qualname__,
        frames=[f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)],
    )
    return incident
