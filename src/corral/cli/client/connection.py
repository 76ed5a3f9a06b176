"""Where a server is, and what may go wrong with it. Must not know of HTTP."""

from collections.abc import Callable
from dataclasses import dataclass, field

from corral.core.errors import CorralError


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """Where a server is, and the key to it."""

    url: str
    api_key: str | None = field(default=None, repr=False)


Connect = Callable[[str | None], Connection]
"""Finds the connection from ``--url``, or from settings and login when that is None."""


class RequestFailed(CorralError):
    """The server was not reached or said no; the message is one sentence for the person at the terminal."""


class Unreached(RequestFailed):
    """The connection could not be made, or broke; the same request may work a moment later."""


class Refused(RequestFailed):
    """The server answered with a status that is no success."""

    def __init__(self, message: str, *, status_code: int, body: bytes) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.body = body
