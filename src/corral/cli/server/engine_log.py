"""The engine's counters in the log, at level debug."""

import asyncio
from dataclasses import asdict
from typing import Final

import structlog

from corral.engines.base import Engine

_EVERY_S: Final = 10

_log = structlog.get_logger(__name__)


async def log_engine_counters(engine: Engine) -> None:
    """Log every counter of *engine* whenever one has changed since the last look, until cancelled."""
    last = None
    while True:
        stats = engine.stats()
        if stats != last:
            _log.debug("engine_counters", **asdict(stats))
            last = stats
        await asyncio.sleep(_EVERY_S)
