"""Durations of recent predictions, for latency percentiles."""

from dataclasses import dataclass

from sqlalchemy import Connection, select

from corral.core.prediction import Status
from corral.store.schema import predictions


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Durations of an ended prediction that emitted tokens."""

    first_token_ms: int
    """Time to first token, including the queue."""
    decode_ms: int
    """From the first token to the end."""
    completion_tokens: int
    """Sum over all choices."""
    status: Status


def timings(connection: Connection, account_id: str, *, since_ms: int, limit: int) -> list[Timing]:
    """List durations of the account's ended predictions created since *since_ms*, newest first, at most *limit*."""
    times = (predictions.c.created_at_ms, predictions.c.started_at_ms, predictions.c.completed_at_ms)
    wanted = (
        select(*times, predictions.c.completion_tokens, predictions.c.status)
        .where(
            predictions.c.account_id == account_id,
            predictions.c.created_at_ms >= since_ms,
            predictions.c.started_at_ms.is_not(None),
            predictions.c.completed_at_ms.is_not(None),
        )
        .order_by(predictions.c.created_at_ms.desc(), predictions.c.id.desc())
        .limit(limit)
    )
    return [
        Timing(
            first_token_ms=max(0, started_at_ms - created_at_ms),  # the clock may have been set back
            decode_ms=max(0, completed_at_ms - started_at_ms),
            completion_tokens=completion_tokens,
            status=Status(status),
        )
        for created_at_ms, started_at_ms, completed_at_ms, completion_tokens, status in connection.execute(wanted)
    ]
