"""Rate limits per account: token buckets for creates and for all other requests, in memory.

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
"""Limit that is reported to accounts without one."""
_MANY: Final = 10_000
"""Number of buckets above which full ones are deleted."""


class Kind(StrEnum):
    """Requests that share a bucket."""

    CREATE = "create"
    OTHER = "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """State of a bucket after a request."""

    remaining: int
    reset_s: int
    """Seconds until the bucket is full again."""
    refused: RateLimited | None = None

    @property
    def headers(self) -> dict[str, str]:
        """Rate limit response headers."""
        return {"ratelimit-remaining": str(self.remaining), "ratelimit-reset": str(self.reset_s)}


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at_s: float


class Rates:
    """Token buckets of every account."""

    def __init__(self, *, creates_per_minute: int, requests_per_minute: int, clock: Callable[[], float]) -> None:
        """Both limits are per account and minute; 0 is unlimited."""
        self._limits = {Kind.CREATE: creates_per_minute, Kind.OTHER: requests_per_minute}
        self._clock = clock
        self._buckets: dict[tuple[str, Kind], _Bucket] = {}

    def take(self, caller: Caller, kind: Kind) -> Standing:
        """Count a request. Accounts without limits always see a full bucket."""
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
