"""How fast and how busy the server is: percentiles over stored predictions, and what the engine does now.

Percentiles are an account's own. What the engine does is everybody's at once, in sums that tell nobody's prompts.
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
"""So many of the newest predictions of the window are looked at."""
SAMPLE_S: Final = 1.0
HISTORY: Final = 60
"""Samples of the engine's rate that are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """Nearest ranks: each is a value that was measured, and so many percent of all are not above it."""

    p50: float
    p90: float
    p99: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """How long an account's recent predictions took, in milliseconds."""

    runs: int
    """Predictions that were looked at."""
    first_token_ms: Percentiles | None
    """From the call to the first token, queue included; None if nothing was measured."""
    token_ms: Percentiles | None
    """From one token to the next, on the average of each prediction that ended by itself with two tokens or more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What the engine does now, for everybody together."""

    running: int
    waiting: int
    kv_usage_percent: float
    """Of the deployment where it is highest."""
    tokens_per_s: float
    """Over the last sample."""
    recent_tokens_per_s: tuple[float, ...]
    """One a second of the last minute, the newest last; fewer after a start."""


class Measures:
    """One server's."""

    def __init__(self, *, store: Store, deployments: Deployments, clock: Callable[[], float]) -> None:
        """Put together; the engine's rate is known while ``run`` lasts.

        Args:
            store: where predictions are.
            deployments: what computes.
            clock: Unix time in seconds.
        """
        self._store = store
        self._deployments = deployments
        self._clock = clock
        self._rates: deque[float] = deque(maxlen=HISTORY)

    @asynccontextmanager
    async def run(self) -> AsyncGenerator[None]:
        """Watch the engine's rate for as long as the block lasts."""
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(self._watch())
            try:
                yield
            finally:
                watching.cancel()

    def load(self) -> Load:
        """What the engine does now; never blocks."""
        stats = [deployment.engine.stats() for deployment in self._deployments]
        return Load(
            running=sum(one.running for one in stats),
            waiting=sum(one.waiting for one in stats),
            kv_usage_percent=max(one.kv_usage_percent for one in stats),
            tokens_per_s=self._rates[-1] if self._rates else 0.0,
            recent_tokens_per_s=tuple(self._rates),
        )

    async def latency(self, account_id: str) -> Latency:
        """How long the account's newest MAX_RUNS predictions of the last WINDOW_S took."""
        since_ms = int((self._clock() - WINDOW_S) * 1000)
        found = await self._store.read(partial(timings, account_id=account_id, since_ms=since_ms, limit=MAX_RUNS))
        return Latency(
            runs=len(found),
            first_token_ms=percentiles([timing.first_token_ms for timing in found]),
            token_ms=percentiles([_token_ms(timing) for timing in found if _ended_by_itself(timing)]),
        )

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        then_s, before_tokens = loop.time(), self._deployments.token_counts().emitted
        while True:
            await asyncio.sleep(SAMPLE_S)
            now_s, emitted_tokens = loop.time(), self._deployments.token_counts().emitted
            self._rates.append((emitted_tokens - before_tokens) / (now_s - then_s))
            then_s, before_tokens = now_s, emitted_tokens


def percentiles(values: Sequence[float]) -> Percentiles | None:
    """The usual three of *values*, in any order; None of none."""
    if not values:
        return None
    ordered = sorted(values)
    p50, p90, p99 = (ordered[math.ceil(len(ordered) * percent / 100) - 1] for percent in (50, 90, 99))
    return Percentiles(p50=p50, p90=p90, p99=p99)


def _ended_by_itself(timing: Timing) -> bool:
    return timing.status is Status.SUCCEEDED and timing.completion_tokens > 1


def _token_ms(timing: Timing) -> float:
    """The first token begins the time that is measured, so one fewer than all came in it."""
    return timing.rest_ms / (timing.completion_tokens - 1)
