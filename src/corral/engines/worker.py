"""Worker protocol: what computes for an engine, such as a child process or a server elsewhere.

A worker knows one batch of sequences by their keys. It has no queue and restarts nothing: ``engines.supervision`` does.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from corral.engines.base import EngineInfo, EngineRequest
from corral.engines.stats import EngineState
from corral.engines.stepper import Report, SequenceOutput


@dataclass(frozen=True, slots=True)
class WorkerStep:
    """Result of one step: new tokens of all sequences."""

    outputs: tuple[SequenceOutput, ...]
    cancelled: tuple[int, ...]
    """Keys that ``cancel`` was called for and that are gone, whether or not they were known."""
    kv_usage_percent: float


@dataclass(frozen=True, slots=True)
class SequenceRefused:
    """The worker does not accept a sequence; the others go on."""

    key: int
    message: str


WorkerOutput = WorkerStep | SequenceRefused


@dataclass(frozen=True, slots=True)
class WorkerHealth:
    """State of a worker, and where it runs."""

    state: EngineState
    pid: int | None = None
    """Process that computes; None if there is none on this machine."""


class WorkerDiedError(Exception):
    """The worker ended, hangs, or could not be started; the message is for the log."""


class Worker(Protocol):
    """Computes one batch. After ``close`` it can be started again."""

    async def start(self, report: Report, *, is_restart: bool) -> EngineInfo:
        """Load the weights; return when the worker accepts sequences.

        Args:
            report: called with the progress of the load.
            is_restart: it was ready before and died, so its place in memory is its own: no waiting for other loads.

        Raises:
            CheckpointRefused: the weights cannot be served; another start would end the same way.
            WorkerDiedError: the start failed; another may succeed.
        """
        ...

    def submit(self, key: int, request: EngineRequest) -> None:
        """Add a sequence to the batch. Keys are never used twice."""
        ...

    def cancel(self, key: int) -> None:
        """Remove a sequence; a ``WorkerStep`` names it in ``cancelled`` when it is gone."""
        ...

    def outputs(self) -> AsyncGenerator[WorkerOutput]:
        """Yield results until the worker dies; ``health`` then says why."""
        ...

    def health(self) -> WorkerHealth:
        """State now; never blocks."""
        ...

    async def close(self) -> None:
        """Stop computing and free everything. Idempotent."""
        ...
