"""Event log of a prediction: rows that each contain a range of encoded events."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

from sqlalchemy import Connection, bindparam, func, insert, select, update

from corral.core.errors import UnknownPrediction
from corral.core.prediction import Status
from corral.store.schema import predictions, stream_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRow:
    """A range of encoded events."""

    first_seq: int
    last_seq: int
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Stored progress of a run."""

    last_seq: int
    """Number of the last event in the log; 0 if it is empty, also in privacy mode."""
    engine_tokens: int
    is_over: bool


_PROGRESS: Final = select(
    predictions.c.status,
    predictions.c.engine_tokens,
    select(func.max(stream_rows.c.last_seq)).where(stream_rows.c.prediction_id == predictions.c.id).scalar_subquery(),
).where(predictions.c.id == bindparam("prediction_id"))
_KEPT: Final = select(predictions.c.data_removed).where(predictions.c.id == bindparam("prediction_id"))
_INSERT: Final = insert(stream_rows)
_DELIVERED: Final = (
    update(predictions).where(predictions.c.id == bindparam("prediction_id")).values(engine_tokens=bindparam("tokens"))
)
_READ: Final = (
    select(stream_rows.c.first_seq, stream_rows.c.last_seq, stream_rows.c.payload)
    .where(stream_rows.c.prediction_id == bindparam("prediction_id"), stream_rows.c.last_seq > bindparam("after_seq"))
    .order_by(stream_rows.c.first_seq)
)


def progress(connection: Connection, prediction_id: str) -> Progress:
    """Get the stored progress of a run, which a gateway does not know if the response to a commit was lost.

    Raises:
        UnknownPrediction: no prediction has this id.
    """
    row = connection.execute(_PROGRESS, {"prediction_id": prediction_id}).one_or_none()
    if row is None:
        raise UnknownPrediction(f"There is no prediction '{prediction_id}'.")
    status, engine_tokens, last_seq = row
    return Progress(last_seq=last_seq or 0, engine_tokens=engine_tokens, is_over=Status(status).terminal)


def append(
    connection: Connection, prediction_id: str, rows: Sequence[LogRow], *, engine_tokens: int | None = None
) -> None:
    """Append rows to the log of a prediction. Rows are dropped if its text is purged or in privacy mode.

    Args:
        connection: the transaction's connection.
        prediction_id: the prediction.
        rows: events that are not yet in the log.
        engine_tokens: all tokens delivered by the engine so far, stored for recovery; None stores nothing.

    Raises:
        UnknownPrediction: no prediction has this id.
    """
    removed = connection.execute(_KEPT, {"prediction_id": prediction_id}).scalar_one_or_none()
    if removed is None:
        raise UnknownPrediction(f"There is no prediction '{prediction_id}'.")
    if rows and not removed:
        connection.execute(_INSERT, [{"prediction_id": prediction_id, **asdict(row)} for row in rows])
    if engine_tokens is not None:
        connection.execute(_DELIVERED, {"prediction_id": prediction_id, "tokens": engine_tokens})


def read_from(connection: Connection, prediction_id: str, *, after_seq: int = 0) -> list[LogRow]:
    """Get the rows with events after *after_seq*, in order; the first row may start before it."""
    found = connection.execute(_READ, {"prediction_id": prediction_id, "after_seq": after_seq})
    return [LogRow(first_seq=first, last_seq=last, payload=payload) for first, last, payload in found]
