"""Log the engine's counters at debug level."""

import asyncio
from dataclasses import asdict
from typing import Final

import structlog

from corral.engines.base import Engine

_EVERY_S: Final = 10
_TEXTS: Final = frozenset({"state", "workers"})
"""Fields that are no counters, logged as text after them."""

_log = structlog.get_logger(__name__)


async def log_engine_counters(deployment: str, engine: Engine) -> None:
    """Log the counters of a deployment every 10 s if one has changed, until cancelled."""
    last = None
    while True:
        stats = engine.stats()
        if stats != last:
            counters = {name: value for name, value in asdict(stats).items() if name not in _TEXTS}
            workers = ", ".join(f"{worker.pid}: {worker.state}" for worker in stats.workers)
            _log.debug("engine_counters", **counters, state=str(stats.state), workers=workers, deployment=deployment)
            last = stats
        await asyncio.sleep(_EVERY_S)
