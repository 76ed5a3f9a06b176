"""Errors of outgoing requests. Only their codes are stored and shown."""

from enum import StrEnum


class Refusal(StrEnum):
    """Reason why a URL is never sent to."""

    BAD_URL = "bad_url"
    FORBIDDEN_ADDRESS = "forbidden_address"
    """The host resolves to an address that is not public and not allowed by the operator."""


class Failure(StrEnum):
    """Reason why a request failed; a retry may succeed."""

    NO_ADDRESS = "no_address"
    """The host name cannot be resolved."""
    NO_CONNECTION = "no_connection"
    BAD_TLS = "bad_tls"
    """The TLS handshake failed: no TLS, an untrusted certificate, or one for another name."""
    TIMEOUT = "timeout"
    CLOSED = "closed"
    """The connection was closed before a status was received."""
    NOT_HTTP = "not_http"


class EgressRefused(Exception):
    """Nothing was sent, and a retry is useless. The message reveals nothing about the host."""

    def __init__(self, why: Refusal, message: str) -> None:
        super().__init__(message)
        self.why = why


class EgressFailed(Exception):
    """No status was received; the request may have arrived."""

    def __init__(self, why: Failure) -> None:
        super().__init__(why.value)
        self.why = why
