"""Stepper protocol: a running batch inside a worker process, advanced one step at a time.

A stepper is single-threaded and synchronous. ``engines.admission`` never gives it more than its KV cache can finish.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from corral.engines.base import EndReason, EngineInfo, EngineRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Progress of one stage of a load."""

    stage: str
    """Shown to people: ``Storing weights as int8``."""
    done: float
    total: float
    """In the stage's own unit; 0 when unknown."""


Report = Callable[[Progress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceOutput:
    """New tokens of one sequence after a step."""

    key: int
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    end: EndReason | None
    prompt_logprobs: tuple[float, ...] | None = None
    """With ``echo``, once: one for each prompt token after the first."""


class Stepper(Protocol):
    """A running batch. ``add`` may refuse one request; an exception from ``step`` means the whole batch is lost."""

    @property
    def info(self) -> EngineInfo:
        """Description of what is loaded."""
        ...

    def add(self, key: int, request: EngineRequest) -> None:
        """Join the batch at the next step. Keys are unique for the life of the process and only grow.

        Raises:
            InvalidRequest: the engine refuses this request; the others are unharmed.
        """
        ...

    def cancel(self, key: int) -> None:
        """Leave the batch before the next step; unknown or finished keys are ignored."""
        ...

    def step(self) -> list[SequenceOutput]:
        """Advance every sequence once (one token each, or a chunk of prompt); return those with results."""
        ...

    def sequences(self) -> int:
        """Sequences in the batch, those not yet prefilled included."""
        ...

    def kv_usage_percent(self) -> float:
        """Share of the KV cache in use, as the engine itself says; may lag one step."""
        ...
