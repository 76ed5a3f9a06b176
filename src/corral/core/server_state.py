"""State of the server, for `/health`, pages, commands and logs."""

from dataclasses import dataclass
from enum import StrEnum


class ServerState(StrEnum):
    """State of the server: whether it can answer requests, and if not, why."""

    STARTING = "starting"
    """The model is loading, or its worker is being restarted."""
    READY = "ready"
    RECOVERING = "recovering"
    """The engine computes runs that crashed workers one at a time; other requests wait."""
    STORAGE_FAILED = "storage_failed"
    """The database cannot be written: disk full, read-only, I/O error or connection lost. New requests get 503."""
    STOPPING = "stopping"
    """The server is shutting down: running requests end, new ones get 503."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStatus:
    """Current state of the server, with a reason for people."""

    state: ServerState
    reason: str | None = None
    """One sentence without names of files, hosts or accounts: ``/health`` shows it without a key."""

    @property
    def is_ready(self) -> bool:
        """Whether the server can answer requests."""
        return self.state is ServerState.READY
