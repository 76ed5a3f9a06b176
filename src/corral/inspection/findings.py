"""Collect the refusals and warnings of an inspection, which goes on after each."""

from collections.abc import Callable
from typing import TypeVar

from corral.core.errors import CheckpointRefused

T = TypeVar("T")


class Findings:
    """Refusals and warnings, each once, in the order in which they were found."""

    def __init__(self) -> None:
        self._refusals: dict[str, None] = {}
        self._warnings: dict[str, None] = {}

    @property
    def refusals(self) -> tuple[str, ...]:
        """Why the checkpoint cannot be served."""
        return tuple(self._refusals)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What may surprise whoever serves it."""
        return tuple(self._warnings)

    def attempt(self, work: Callable[[], T]) -> T | None:
        """Do *work*; if it refuses the checkpoint, note why and return None."""
        try:
            return work()
        except CheckpointRefused as refusal:
            self._refusals.setdefault(str(refusal))
            return None

    def warn(self, *sentences: str) -> None:
        """Note warnings."""
        self._warnings.update(dict.fromkeys(sentences))
