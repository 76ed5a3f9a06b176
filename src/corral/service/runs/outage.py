"""Wait of background runs for an engine that cannot be started."""

import asyncio

import structlog

from corral.core.errors import EngineUnavailable, Overloaded
from corral.engines.base import Engine

_log = structlog.get_logger(__name__)

ASK_AGAIN_S = 0.5
"""Delay before the engine is tried again."""


class Outage:
    """Measures how long one run has been without an engine, against a limit."""

    def __init__(self, engine: Engine, *, prediction_id: str, limit_s: float) -> None:
        """Start the measurement at the first error.

        Args:
            engine: the engine that the run waits for.
            prediction_id: of the run, for log lines.
            limit_s: longest wait.
        """
        self._engine = engine
        self._prediction_id = prediction_id
        self._limit_s = limit_s
        self._began_s: float | None = None

    def over(self) -> None:
        """Reset: the engine has emitted tokens."""
        self._began_s = None

    async def wait(self, error: EngineUnavailable | Overloaded) -> None:
        """Return when the engine may take the run again.

        Raises:
            EngineUnavailable, Overloaded: *error*, when the limit is reached.
        """
        clock = asyncio.get_running_loop().time
        if self._began_s is None:
            self._began_s = clock()
            _log.warning("engine_wait_started", prediction=self._prediction_id, reason=str(error))
        while True:
            if clock() + ASK_AGAIN_S - self._began_s > self._limit_s:
                raise error
            await asyncio.sleep(ASK_AGAIN_S)
            try:
                return await self._engine.ready()
            except EngineUnavailable:
                continue
