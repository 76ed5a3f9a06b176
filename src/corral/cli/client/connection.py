"""Address and key of a server, and errors of requests to it."""

from collections.abc import Callable
from dataclasses import dataclass, field

from corral.core.errors import CorralError


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """Address and API key of a server."""

    url: str
    api_key: str | None = field(default=None, repr=False)


Connect = Callable[[str | None], Connection]
"""Finds the connection from ``--url``, or from settings and login if it is None."""


class RequestFailed(CorralError):
    """The request failed; the message is one sentence for the terminal."""


class Unreached(RequestFailed):
    """The connection failed or was lost. Safe to retry."""


class Refused(RequestFailed):
    """The server returned an error status."""

    def __init__(self, message: str, *, status_code: int, body: bytes) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.body = body
