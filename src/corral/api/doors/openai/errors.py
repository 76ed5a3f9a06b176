"""Map `CorralError` to OpenAI error responses."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from pydantic import ValidationError

from corral.api.addresses import MethodNotAllowed, UnknownAddress
from corral.api.body import BodyEncoded, BodyTooLarge, BodyTooSlow
from corral.api.operation import Fault
from corral.api.problems import Problem, error_headers, from_validation
from corral.core.errors import (
    Canceled,
    CorralError,
    DataRemoved,
    DeploymentInUse,
    EngineFailed,
    EngineUnavailable,
    IdempotencyConflict,
    InsufficientCredit,
    InvalidRequest,
    LoadFailed,
    ModelLoading,
    Overloaded,
    PermissionDenied,
    PromptTooLong,
    RateLimited,
    ServerStopping,
    StorageUnavailable,
    Unauthenticated,
    UnknownDeployment,
    UnknownModel,
    UnknownPrediction,
    Unsupported,
)


class ToolCallingUnsupported(Unsupported):
    """The request offers tools; Llama 2 was not trained to call any."""

    def __init__(self, model: str) -> None:
        super().__init__(f"Tool calling is not supported for model: {model}", param="tools")


@dataclass(frozen=True, slots=True)
class _Row:
    status: int
    type: str
    code: str | None = None
    lead: str = ""
    """Prefix of the message that clients look for."""


ERRORS: Mapping[type[CorralError], _Row] = {
    CorralError: _Row(500, "server_error"),
    InvalidRequest: _Row(400, "invalid_request_error"),
    BodyEncoded: _Row(415, "invalid_request_error"),
    BodyTooLarge: _Row(413, "invalid_request_error"),
    BodyTooSlow: _Row(408, "invalid_request_error"),
    PromptTooLong: _Row(400, "invalid_request_error", "context_length_exceeded"),
    Unsupported: _Row(400, "invalid_request_error", "unsupported_value"),
    ToolCallingUnsupported: _Row(405, "invalid_request_error"),
    UnknownAddress: _Row(404, "invalid_request_error", "unknown_url"),
    MethodNotAllowed: _Row(405, "invalid_request_error", "method_not_allowed"),
    UnknownModel: _Row(404, "invalid_request_error", "model_not_found"),
    UnknownDeployment: _Row(404, "invalid_request_error", "deployment_not_found"),
    DeploymentInUse: _Row(409, "invalid_request_error", "deployment_in_use"),
    UnknownPrediction: _Row(404, "invalid_request_error", "prediction_not_found"),
    Unauthenticated: _Row(401, "invalid_request_error", "invalid_api_key"),
    PermissionDenied: _Row(403, "invalid_request_error", "permission_denied"),
    InsufficientCredit: _Row(402, "insufficient_quota", "insufficient_quota"),
    IdempotencyConflict: _Row(409, "invalid_request_error", "idempotency_conflict"),
    Canceled: _Row(409, "invalid_request_error", "canceled"),
    DataRemoved: _Row(410, "invalid_request_error", "data_removed"),
    Overloaded: _Row(429, "rate_limit_error", "overloaded", "Model busy, retry later"),
    ModelLoading: _Row(503, "server_error", "model_loading"),
    RateLimited: _Row(429, "rate_limit_error", "rate_limit_exceeded", "Rate limited"),
    EngineUnavailable: _Row(503, "server_error", "engine_unavailable"),
    LoadFailed: _Row(503, "server_error", "model_load_failed"),
    StorageUnavailable: _Row(503, "server_error", "storage_unavailable"),
    ServerStopping: _Row(503, "server_error", "server_stopping"),
    EngineFailed: _Row(500, "server_error", "engine_failed"),
}
"""Response of each error class; a class without a row uses the row of its nearest base."""


def from_error(error: CorralError) -> Problem:
    """Build OpenAI's error object."""
    row = next(ERRORS[kind] for kind in type(error).__mro__ if kind in ERRORS)
    message = f"{row.lead}: {error}" if row.lead else str(error)
    return Problem(
        status=row.status,
        body={"error": {"message": message, "type": row.type, "param": _param(error), "code": row.code}},
        headers=_headers(error),
    )


def from_faults(error: ValidationError) -> Problem:
    """Build the response to invalid fields: FastAPI's list, as DeepInfra answers, beside OpenAI's error object.

    OpenAI's clients show a person the error object's message and nothing else.
    """
    problem = from_validation(error)
    faults = cast("list[Fault]", problem.body["detail"])
    places = [".".join(map(str, fault["loc"][1:])) for fault in faults]
    lines = [f"{place}: {fault['msg']}" if place else fault["msg"] for place, fault in zip(places, faults, strict=True)]
    row = ERRORS[InvalidRequest]
    told = {"message": "; ".join(lines), "type": row.type, "param": places[0] or None, "code": row.code}
    return Problem(status=problem.status, body={**problem.body, "error": told})


def _param(error: CorralError) -> str | None:
    match error:
        case PromptTooLong():
            return error.param or "messages"
        case InvalidRequest():
            return error.param
        case UnknownModel():
            return "model"
        case _:
            return None


def _headers(error: CorralError) -> dict[str, str]:
    headers = error_headers(error)
    if isinstance(error, EngineFailed | IdempotencyConflict | Canceled):
        # OpenAI's clients retry 409 and 500, and these would only fail again.
        headers["x-should-retry"] = "false"
    return headers
