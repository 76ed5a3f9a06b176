"""What a worker process is started with."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLaunch:
    """What to start."""

    engine: str
    """A name that ``engines.worker`` knows."""
    options: Mapping[str, Any]
    """The engine's own options, msgpack-encodable."""
    environment: Mapping[str, str]
    """The child's whole environment: nothing of the gateway's leaks in by accident."""
