"""Map `CorralError` to DeepInfra error responses: ``{"error": text}``, or FastAPI's list for invalid fields."""

from collections.abc import Mapping
from typing import Final

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from corral.api.addresses import MethodNotAllowed, UnknownAddress
from corral.api.body import BodyEncoded, BodyTooLarge, BodyTooSlow
from corral.api.problems import Problem, error_headers
from corral.core.errors import (
    Canceled,
    CorralError,
    DataRemoved,
    EngineFailed,
    EngineUnavailable,
    IdempotencyConflict,
    InsufficientCredit,
    InvalidRequest,
    ModelLoading,
    Overloaded,
    PermissionDenied,
    RateLimited,
    StorageUnavailable,
    Unauthenticated,
    UnknownModel,
    UnknownPrediction,
)


class NotFound(CorralError):
    """The deploy, token or page does not exist."""


class NotOffered(CorralError):
    """The route exists in DeepInfra's API but has no meaning on a self-hosted server."""


class NameTaken(CorralError):
    """Another key of the account has that name."""


STATUSES: Final[Mapping[type[CorralError], int]] = {
    CorralError: 500,
    InvalidRequest: 400,
    BodyEncoded: 415,
    BodyTooLarge: 413,
    BodyTooSlow: 408,
    UnknownAddress: 404,
    MethodNotAllowed: 405,
    UnknownModel: 404,
    UnknownPrediction: 404,
    NotFound: 404,
    NotOffered: 405,
    NameTaken: 409,
    Unauthenticated: 401,
    PermissionDenied: 403,
    InsufficientCredit: 402,
    IdempotencyConflict: 409,
    Canceled: 409,
    DataRemoved: 410,
    Overloaded: 429,
    ModelLoading: 503,
    EngineUnavailable: 503,
    StorageUnavailable: 503,
    EngineFailed: 500,
}
"""How each error is answered; a class without a row is answered as its nearest base."""

_LEADS: Final[Mapping[type[CorralError], str]] = {
    RateLimited: "Rate limited",
    ModelLoading: "Model is loading",
    Overloaded: "Model busy, retry later",
}
"""Words that clients look for, before the error's own."""


def from_error(error: CorralError) -> Problem:
    """Build the error response."""
    kinds = type(error).__mro__
    status = next(STATUSES[kind] for kind in kinds if kind in STATUSES)
    lead = next((_LEADS[kind] for kind in kinds if kind in _LEADS), None)
    sentence = f"{lead}: {error}" if lead else str(error)
    body = {"error": sentence}
    if isinstance(error, UnknownAddress | MethodNotAllowed):
        body["detail"] = sentence  # where DeepInfra has it
    return Problem(status=status, body=body, headers=error_headers(error))


def wrong_field(name: str, message: str) -> ValidationError:
    """Build a validation error for a field whose value contradicts other fields."""
    fault = PydanticCustomError("contradiction", "{message}", {"message": message})
    return ValidationError.from_exception_data(name, [InitErrorDetails(type=fault, loc=(name,), input=None)])
