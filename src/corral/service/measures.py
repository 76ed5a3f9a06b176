"""Latency percentiles of stored predictions, and the current load of the engine.

Percentiles are computed per account. The load is the sum over all accounts and contains no text.
"""

import asyncio
import math
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from corral.core.prediction import Status
from corral.deployments.registry import Deployments
from corral.store.runs.latencies import Timing, timings
from corral.store.store import Store

WINDOW_S: Final = 24 * 3600
MAX_RUNS: Final = 1000
"""Most predictions that percentiles are computed from: the newest ones of the window."""
SAMPLE_S: Final = 1.0
HISTORY: Final = 60
"""Number of samples of the token rate to keep."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """Percentiles by the nearest-rank method: each is a measured value, not an interpolation."""

    p50: float
    p90: float
    p99: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Latency percentiles of an account's recent predictions."""

    runs: int
    """Number of predictions in the sample."""
    first_token_ms: Percentiles | None
    """Time to first token including the queue, in milliseconds; None without predictions."""
    token_ms: Percentiles | None
    """Mean time per output token of each succeeded prediction with two or more tokens, in milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Current load of the engine, for all accounts together."""

    running: int
    waiting: int
    kv_usage_percent: float
    """Of the deployment where it is highest."""
    tokens_per_s: float
    """Over the last sample."""
    recent_tokens_per_s: tuple[float, ...]
    """One value per second of the last minute, newest last; fewer just after the start."""


class Measures:
    """Computes latency percentiles and samples the engine's token rate."""

    def __init__(self, *, store: Store, deployments: Deployments, clock: Callable[[], float]) -> None:
        """Create the measures; the token rate is sampled while ``run`` is active.

        Args:
            store: holds the predictions.
            deployments: the deployments whose load is measured.
            clock: returns Unix time in seconds.
        """
        self._store = store
        self._deployments = deployments
        self._clock = clock
        self._rates: deque[float] = deque(maxlen=HISTORY)

    @asynccontextmanager
    async def run(self) -> AsyncGenerator[None]:
        """Sample the engine's token rate while the block is active."""
        async with asyncio.TaskGroup() as tasks:
            sampling = tasks.create_task(self._sample_rate())
            try:
                yield
            finally:
                sampling.cancel()

    def load(self) -> Load:
        """Get the current load. Never blocks."""
        stats = [deployment.engine.stats() for deployment in self._deployments]
        return Load(
            running=sum(one.running for one in stats),
            waiting=sum(one.waiting for one in stats),
            kv_usage_percent=max(one.kv_usage_percent for one in stats),
            tokens_per_s=self._rates[-1] if self._rates else 0.0,
            recent_tokens_per_s=tuple(self._rates),
        )

    async def latency(self, account_id: str) -> Latency:
        """Compute latency percentiles of the account's newest MAX_RUNS predictions of the last WINDOW_S seconds."""
        since_ms = int((self._clock() - WINDOW_S) * 1000)
        found = await self._store.read(partial(timings, account_id=account_id, since_ms=since_ms, limit=MAX_RUNS))
        return Latency(
            runs=len(found),
            first_token_ms=percentiles([timing.first_token_ms for timing in found]),
            token_ms=percentiles([_token_ms(timing) for timing in found if _has_token_time(timing)]),
        )

    async def _sample_rate(self) -> None:
        loop = asyncio.get_running_loop()
        then_s, before_tokens = loop.time(), self._deployments.token_counts().emitted
        while True:
            await asyncio.sleep(SAMPLE_S)
            now_s, emitted_tokens = loop.time(), self._deployments.token_counts().emitted
            self._rates.append((emitted_tokens - before_tokens) / (now_s - then_s))
            then_s, before_tokens = now_s, emitted_tokens


def percentiles(values: Sequence[float]) -> Percentiles | None:
    """Compute the percentiles of *values*, in any order; None if there are none."""
    if not values:
        return None
    ordered = sorted(values)
    p50, p90, p99 = (ordered[math.ceil(len(ordered) * percent / 100) - 1] for percent in (50, 90, 99))
    return Percentiles(p50=p50, p90=p90, p99=p99)


def _has_token_time(timing: Timing) -> bool:
    return timing.status is Status.SUCCEEDED and timing.completion_tokens > 1


def _token_ms(timing: Timing) -> float:
    """Mean time per output token. The measured time starts at the first token, so that one is not counted."""
    return timing.decode_ms / (timing.completion_tokens - 1)
