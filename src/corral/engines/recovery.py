"""Bounds the time in which runs that crashed workers are computed alone.

Such a run is suspected of the crashes: see ``queue.SUSPECT_DEATHS``. While it is computed nobody else is, so new
requests are refused with the time after which they may come again, and the whole phase ends after a limit.
"""

import asyncio
from collections.abc import Callable
from math import ceil

import structlog

from corral.core.errors import Overloaded
from corral.engines.queue import RunQueue

_log = structlog.get_logger(__name__)


class CrashRecovery:
    """The phase in which a queue has suspects."""

    def __init__(self, queue: RunQueue, *, limit_s: float, on_released: Callable[[], None]) -> None:
        """Watch a queue.

        Args:
            queue: whose suspects are bounded.
            limit_s: the longest phase; then the suspects are released.
            on_released: called after that, to admit others.
        """
        self._queue = queue
        self._limit_s = limit_s
        self._on_released = on_released
        self._timer: asyncio.TimerHandle | None = None

    @property
    def active(self) -> bool:
        """Whether a run is computed alone, or is to be."""
        return self._queue.has_suspects

    def update(self) -> None:
        """Begin to count when a suspect is computed, end with the last one; called when they may have come or gone."""
        if self._timer is None and self._queue.computes_suspect:
            self._timer = asyncio.get_running_loop().call_later(self._limit_s, self._release)
            _log.warning("engine_recovery_started", limit_s=self._limit_s)
        elif self._timer is not None and not self.active:
            self.worker_died()
            _log.info("engine_recovery_ended")

    def worker_died(self) -> None:
        """Count anew: the next worker may take longer to load than the limit."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def check_open(self) -> None:
        """Refuse a new request during the phase.

        Raises:
            Overloaded: with the seconds until the phase ends at the latest.
        """
        if self.active:
            now_s = asyncio.get_running_loop().time()
            left_s = self._limit_s if self._timer is None else self._timer.when() - now_s
            raise Overloaded(
                "The engine recovers from crashes: it computes the requests that may have caused them one by one.",
                retry_after_s=max(1, ceil(left_s)),
            )

    def _release(self) -> None:
        _log.warning("engine_recovery_timed_out", limit_s=self._limit_s)
        self._queue.release_suspects()
        self.update()
        self._on_released()
