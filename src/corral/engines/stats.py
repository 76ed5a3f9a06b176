"""Snapshots of an engine and its workers: state and counters, for health checks, pages and logs."""

from dataclasses import dataclass
from enum import StrEnum


class EnginePhase(StrEnum):
    """Whether an engine, or one of its workers, can compute now."""

    UNLOADED = "unloaded"
    WAITING = "waiting"
    """The load waits for its turn, or for memory."""
    LOADING = "loading"
    READY = "ready"
    RESTARTING = "restarting"
    """The process died after it had been ready; a new one is being started."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class EngineState:
    """State of an engine or a worker; ``str()`` is its text for people: ``loading 40 %``, ``failed: no such file``."""

    phase: EnginePhase
    percent: float | None = None
    """Progress of the load; None if unknown, and in other phases."""
    reason: str = ""
    """Why it failed. May name files: for operators and the log only."""

    def __str__(self) -> str:
        if self.percent is not None:
            return f"{self.phase} {self.percent:.0f} %"
        return f"{self.phase}: {self.reason}" if self.reason else str(self.phase)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStats:
    """Snapshot of one worker."""

    state: EngineState
    pid: int | None
    """Process that computes; None if there is none on this machine."""
    running: int
    """Sequences in its batch."""
    deaths: int
    """Times it died or could not be started."""
    restarts: int
    """Times it was started again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStats:
    """Snapshot of an engine, over all its workers."""

    state: EngineState
    running: int
    """Sequences in the batches."""
    waiting: int
    """Sequences that wait for a slot or for KV blocks."""
    kv_blocks_reserved: int
    """Blocks promised to running sequences: enough for each to finish."""
    kv_usage_percent: float
    """Share of the KV cache in use, as the workers report it; one step late."""
    emitted_tokens: int
    """Tokens that workers computed since the gateway started; the sum of the next three."""
    delivered_tokens: int
    """Tokens that readers took, or may still take."""
    discarded_tokens: int
    """Tokens for readers who had left, or left before they took them."""
    replayed_tokens: int
    """Tokens that repeated what readers had, after a worker died."""
    restarts: int
    """Times a worker was started again."""
    recovering: bool
    """Whether sequences that may have crashed workers are being computed alone."""
    workers: tuple[WorkerStats, ...]
