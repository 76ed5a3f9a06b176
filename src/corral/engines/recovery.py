"""Limits the time in which sequences that may have crashed workers are computed alone.

Such a sequence is a suspect: see ``admission.SUSPECT_DEATHS``. Its worker computes nothing else meanwhile. If that is
the only worker, new requests are refused with a time to retry after; in any case the phase ends after a limit.
"""

import asyncio
from collections.abc import Callable
from math import ceil

import structlog

from corral.core.errors import Overloaded
from corral.engines.admission import Admission

_log = structlog.get_logger(__name__)


class CrashRecovery:
    """The phase in which there are suspects."""

    def __init__(self, admission: Admission, *, limit_s: float, on_released: Callable[[], None]) -> None:
        """Watch the sequences of an engine.

        Args:
            admission: holds the suspects.
            limit_s: longest phase; then the suspects are released.
            on_released: called after that, to admit others.
        """
        self._admission = admission
        self._limit_s = limit_s
        self._on_released = on_released
        self._timer: asyncio.TimerHandle | None = None

    @property
    def active(self) -> bool:
        """Whether a sequence is computed alone, or waits for that."""
        return self._admission.has_suspects

    def update(self) -> None:
        """Start the timer when a suspect is computed, stop it after the last; called when suspects may have changed."""
        if self._timer is None and self._admission.computes_suspect:
            self._timer = asyncio.get_running_loop().call_later(self._limit_s, self._release)
            _log.warning("engine_recovery_started", limit_s=self._limit_s)
        elif self._timer is not None and not self.active:
            self.worker_died()
            _log.info("engine_recovery_ended")

    def worker_died(self) -> None:
        """Restart the timer when the next suspect is computed: a worker may take longer to load than the limit."""
        if self._timer is not None and not self._admission.computes_suspect:
            self._timer.cancel()
            self._timer = None

    def check_open(self) -> None:
        """Refuse a new request if suspects keep all workers from taking others.

        Raises:
            Overloaded: with the seconds until the phase ends at the latest.
        """
        if self._admission.only_suspects:
            now_s = asyncio.get_running_loop().time()
            left_s = self._limit_s if self._timer is None else self._timer.when() - now_s
            raise Overloaded(
                "The engine recovers from crashes: it computes the requests that may have caused them one by one.",
                retry_after_s=max(1, ceil(left_s)),
            )

    def _release(self) -> None:
        _log.warning("engine_recovery_timed_out", limit_s=self._limit_s)
        self._admission.release_suspects()
        self.update()
        self._on_released()
