"""The log of a run's events, in rows that each hold a range of them. What an event looks like is not known here."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

from sqlalchemy import Connection, bindparam, func, insert, select, update

from corral.core.errors import UnknownPrediction
from corral.core.prediction import Status
from corral.store.schema import predictions, stream_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRow:
    """A range of events, encoded."""

    first_seq: int
    last_seq: int
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How much of a run is stored."""

    last_seq: int
    """Number of the last event in the stream log; 0 for none, and where no text is kept."""
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
    """How much of a run is stored: more than its gateway knows where the answer to a commit was lost.

    Raises:
        UnknownPrediction: there is none of that id.
    """
    row = connection.execute(_PROGRESS, {"prediction_id": prediction_id}).one_or_none()
    if row is None:
        raise UnknownPrediction(f"There is no prediction '{prediction_id}'.")
    status, engine_tokens, last_seq = row
    return Progress(last_seq=last_seq or 0, engine_tokens=engine_tokens, is_over=Status(status).terminal)


def append(
    connection: Connection, prediction_id: str, rows: Sequence[LogRow], *, engine_tokens: int | None = None
) -> None:
    """Add rows to a log; nothing is stored for a prediction whose text is not kept.

    Args:
        connection: of the transaction.
        prediction_id: whose log.
        rows: of events that are not in the log yet.
        engine_tokens: all that the engine has delivered so far, so that they are known after a crash; None leaves it.

    Raises:
        UnknownPrediction: there is none of that id.
    """
    removed = connection.execute(_KEPT, {"prediction_id": prediction_id}).scalar_one_or_none()
    if removed is None:
        raise UnknownPrediction(f"There is no prediction '{prediction_id}'.")
    if rows and not removed:
        connection.execute(_INSERT, [{"prediction_id": prediction_id, **asdict(row)} for row in rows])
    if engine_tokens is not None:
        connection.execute(_DELIVERED, {"prediction_id": prediction_id, "tokens": engine_tokens})


def read_from(connection: Connection, prediction_id: str, *, after_seq: int = 0) -> list[LogRow]:
    """The rows that hold any event after *after_seq*, in order; the first may begin before it."""
    found = connection.execute(_READ, {"prediction_id": prediction_id, "after_seq": after_seq})
    return [LogRow(first_seq=first, last_seq=last, payload=payload) for first, last, payload in found]
