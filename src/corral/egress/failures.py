"""Why nothing was sent, or nothing came back, in one word each: all that is stored and shown of it."""

from enum import StrEnum


class Refusal(StrEnum):
    """What is never sent to, however often one tries."""

    BAD_URL = "bad_url"
    FORBIDDEN_ADDRESS = "forbidden_address"
    """The name stands for an address that is not public, and that the operator did not allow."""


class Failure(StrEnum):
    """What may be different next time."""

    NO_ADDRESS = "no_address"
    """The name is unknown, or its name server does not answer."""
    NO_CONNECTION = "no_connection"
    BAD_TLS = "bad_tls"
    """No TLS, a certificate that nobody vouches for, or one of another name."""
    TIMEOUT = "timeout"
    CLOSED = "closed"
    """The connection ended before a status came."""
    NOT_HTTP = "not_http"


class EgressRefused(Exception):
    """Nothing was sent, and trying again is of no use. The message tells nothing of what is at an address."""

    def __init__(self, why: Refusal, message: str) -> None:
        super().__init__(message)
        self.why = why


class EgressFailed(Exception):
    """No status came back; what was sent may have arrived."""

    def __init__(self, why: Failure) -> None:
        super().__init__(why.value)
        self.why = why
