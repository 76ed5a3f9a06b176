"""Interface of an engine kind: checks, estimates and construction."""

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from corral.engines.base import EngineLimits
from corral.engines.queued import QueuedEngine
from corral.engines.stepper import Progress

EngineOptions = Mapping[str, Any]
"""Options of one deployment, by the names of its settings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryEstimate:
    """Memory of one deployment in bytes, on the safe side."""

    weights: int
    """As they are stored after conversion."""
    kv_cache: int
    processes: int
    """Worker and constraint checker without weights and KV cache."""
    conversion: int = 0
    """Peak of the conversion, which ends before the weights are loaded; 0 where nothing is to be converted."""

    @property
    def loaded(self) -> int:
        """While it is loaded."""
        return self.weights + self.kv_cache + self.processes

    @property
    def peak(self) -> int:
        """Most at any time of a load."""
        return max(self.loaded, self.conversion + self.processes)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadTerms:
    """Coordination of an engine's loads with those of other engines."""

    gate: Callable[[], AbstractAsyncContextManager[None]]
    """Entered for a load, so that loads run one at a time."""
    expected_s: Callable[[], float | None]
    """Seconds until a pending load ends; None if unknown."""
    on_progress: Callable[[Progress], None]


class EngineKind(Protocol):
    """One kind of engine. The composition root gives one for each name that ``engine`` in the settings may have."""

    def check(self, options: EngineOptions) -> None:
        """Refuse options that no engine of this kind can have.

        Raises:
            BadSetting: names the option and its value.
        """
        ...

    def settle(self, checkpoint: Path, options: EngineOptions, *, cache_bytes: int) -> EngineOptions:
        """Return the options with everything decided that depends on memory, so that each load takes the same.

        Args:
            checkpoint: the weights.
            options: of the deployment.
            cache_bytes: most bytes of the KV cache, unless one whole context or the options need more.

        Raises:
            CheckpointRefused: no engine of this kind computes with the checkpoint.
        """
        ...

    def limits(self, checkpoint: Path, options: EngineOptions) -> EngineLimits:
        """Limits of requests, from configuration and settled options."""
        ...

    def estimate(self, checkpoint: Path, options: EngineOptions) -> MemoryEstimate:
        """Memory that a load takes, from configuration, files and settled options."""
        ...

    def known_weights_id(self, checkpoint: Path, options: EngineOptions) -> str | None:
        """The ``EngineInfo.weights_id`` of a load, if it is known without reading the weights; else None."""
        ...

    def build(self, checkpoint: Path, options: EngineOptions, terms: LoadTerms) -> QueuedEngine:
        """Create the engine; nothing is loaded yet."""
        ...
