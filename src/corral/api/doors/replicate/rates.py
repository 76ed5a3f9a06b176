"""How often an account may call: a bucket each for creates and for everything else, in memory.

A bucket holds a minute's requests and fills evenly, so that short bursts pass. Knows no HTTP beyond header names.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from corral.core.caller import Caller
from corral.core.errors import RateLimited

_WINDOW_S: Final = 60
_UNBOUNDED: Final = 60_000
"""What is shown as a budget where there is no limit."""
_MANY: Final = 10_000
"""Buckets that are kept before those that are full again are let go of."""


class Kind(StrEnum):
    """What is counted together."""

    CREATE = "create"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where an account stands after a request."""

    remaining: int
    reset_s: int
    """Until the whole budget is there again."""
    refused: RateLimited | None = None

    @property
    def headers(self) -> dict[str, str]:
        """As every answer has them."""
        return {"ratelimit-remaining": str(self.remaining), "ratelimit-reset": str(self.reset_s)}


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at_s: float


class Rates:
    """Every account's buckets."""

    def __init__(self, *, creates_per_minute: int, requests_per_minute: int, clock: Callable[[], float]) -> None:
        """Both limits are per account; 0 is none."""
        self._limits = {Kind.CREATE: creates_per_minute, Kind.OTHER: requests_per_minute}
        self._clock = clock
        self._buckets: dict[tuple[str, Kind], _Bucket] = {}

    def take(self, caller: Caller, kind: Kind) -> Standing:
        """Count a request. Accounts without limits are shown a full budget."""
        limit = self._limits[kind]
        if limit == 0 or caller.unlimited:
            return Standing(remaining=(limit or _UNBOUNDED) - 1, reset_s=1)
        bucket = self._filled(caller.account_id, kind, limit)
        if bucket.tokens < 1:
            retry_s = math.ceil((1 - bucket.tokens) * _WINDOW_S / limit)
            error = RateLimited("Too many requests.", retry_after_s=retry_s)
            return Standing(remaining=0, reset_s=self._reset_s(bucket, limit), refused=error)
        bucket.tokens -= 1
        return Standing(remaining=int(bucket.tokens), reset_s=self._reset_s(bucket, limit))

    def _filled(self, account_id: str, kind: Kind, limit: int) -> _Bucket:
        now_s = self._clock()
        if len(self._buckets) >= _MANY:
            self._buckets = {key: kept for key, kept in self._buckets.items() if now_s - kept.at_s < _WINDOW_S}
        bucket = self._buckets.setdefault((account_id, kind), _Bucket(tokens=limit, at_s=now_s))
        elapsed_s = max(0.0, now_s - bucket.at_s)
        bucket.tokens = min(limit, bucket.tokens + elapsed_s * limit / _WINDOW_S)
        bucket.at_s = now_s
        return bucket

    def _reset_s(self, bucket: _Bucket, limit: int) -> int:
        return max(1, math.ceil((limit - bucket.tokens) * _WINDOW_S / limit))
