"""Errors of pages and their HTTP statuses."""

from collections.abc import Mapping
from typing import Final

from corral.api.body import BodyTooLarge, BodyTooSlow
from corral.core.errors import (
    CorralError,
    DataRemoved,
    EngineUnavailable,
    IdempotencyConflict,
    InsufficientCredit,
    InvalidRequest,
    ModelLoading,
    NotFound,
    Overloaded,
    PermissionDenied,
    StorageUnavailable,
    Unauthenticated,
    UnknownDeployment,
    UnknownModel,
    UnknownPrediction,
)

MAX_SHOWN_CHARS: Final = 200
"""Longest part of a path that an error page repeats."""


class UnknownPage(CorralError):
    """No page has this path."""

    def __init__(self, path: str) -> None:
        super().__init__(f"There is no page at {path[:MAX_SHOWN_CHARS]}.")


class MethodNotAllowed(CorralError):
    """The path does not accept this method."""

    def __init__(self, method: str, path: str) -> None:
        super().__init__(
            f"{path[:MAX_SHOWN_CHARS]} takes no {method} from browsers. Programs may use it, if it is of the API."
        )


class SignInNeeded(CorralError):
    """The page requires sign-in."""


class ForeignForm(CorralError):
    """The form lacks this session's token: it is from another site or an earlier session."""


STATUSES: Final[Mapping[type[CorralError], int]] = {
    CorralError: 500,
    InvalidRequest: 422,
    NotFound: 404,
    BodyTooSlow: 408,
    BodyTooLarge: 413,
    MethodNotAllowed: 405,
    UnknownDeployment: 404,
    UnknownModel: 404,
    UnknownPrediction: 404,
    UnknownPage: 404,
    Unauthenticated: 401,
    SignInNeeded: 401,
    PermissionDenied: 403,
    ForeignForm: 403,
    InsufficientCredit: 402,
    IdempotencyConflict: 409,
    DataRemoved: 410,
    Overloaded: 429,
    ModelLoading: 503,
    EngineUnavailable: 503,
    StorageUnavailable: 503,
}
"""Status of each error class; a class without a row uses the row of its nearest base."""

TITLES: Final[Mapping[int, str]] = {
    401: "Sign in first",
    402: "Not enough credit",
    403: "Not allowed",
    404: "Nothing here",
    405: "Not for browsers",
    408: "Too slow",
    409: "Already done",
    410: "No longer here",
    413: "Too large",
    422: "That does not fit",
    429: "Busy",
    500: "Something broke",
    503: "Not ready",
}


def status_of(error: CorralError) -> int:
    """HTTP status of the page for *error*."""
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)
