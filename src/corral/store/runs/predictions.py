"""Queries on the predictions table: get, list, purge texts."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec
from sqlalchemy import ColumnElement, Connection, RowMapping, bindparam, delete, select, text, tuple_, update

from corral.core.errors import UnknownPrediction
from corral.core.prediction import Prediction, Status, StoppedBy, Webhook, WebhookEvent
from corral.core.pricing import Price
from corral.store.schema import REMOVABLE, predictions, stream_rows

PAGE: Final = 100
PURGE_BATCH: Final = 500
_SEED_MODULUS: Final = 2**64

T = TypeVar("T")
_NO_REQUEST: Final[dict[str, Any]] = {"prompt": {}, "choices": 1, "stopping": {"stop": []}}
"""Placeholder for a stored request that cannot be read; such a run cannot be resumed."""

_FIND: Final = select(predictions).where(predictions.c.id == bindparam("prediction_id"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Filters of a list of predictions; defaults match all."""

    door: str | None = None
    model: str | None = None
    """Id of the model in the catalog."""
    statuses: Collection[Status] = ()
    """Stored statuses; a prediction that has just started may still be stored as starting."""
    created_from_ms: int | None = None
    """Inclusive."""
    created_before_ms: int | None = None


EVERY: Final = Filters()


def get(connection: Connection, account_id: str, prediction_id: str) -> Prediction:
    """Get a prediction of the account.

    Raises:
        UnknownPrediction: the account has no prediction with this id.
    """
    return prediction_of(row_of(connection, account_id, prediction_id))


def find(connection: Connection, prediction_id: str) -> Prediction:
    """Get any account's prediction. No ownership check: for operators and signed URLs.

    Raises:
        UnknownPrediction: no prediction has this id.
    """
    return prediction_of(row_of(connection, None, prediction_id))


def page(
    connection: Connection,
    account_id: str,
    *,
    before: str | None = None,
    filters: Filters = EVERY,
    limit: int = PAGE,
) -> list[Prediction]:
    """List the account's predictions, newest first, at most PAGE.

    Excludes predictions whose request was answered with an error before anything was run: the caller has no id of them.

    Args:
        connection: the transaction's connection.
        account_id: the account.
        before: list only predictions older than this id.
        filters: list only predictions that match all of them.
        limit: most predictions to return.

    Raises:
        UnknownPrediction: the account has no prediction *before*.
    """
    listed = predictions.c.stopped_by.is_distinct_from(StoppedBy.NOT_ADMITTED)
    wanted = select(predictions).where(predictions.c.account_id == account_id, listed, *_conditions(filters))
    if before is not None:
        last = row_of(connection, account_id, before)
        here = tuple_(predictions.c.created_at_ms, predictions.c.id)
        wanted = wanted.where(here < tuple_(last["created_at_ms"], last["id"]))
    newest_first = wanted.order_by(predictions.c.created_at_ms.desc(), predictions.c.id.desc())
    rows = connection.execute(newest_first.limit(max(0, min(limit, PAGE)))).mappings()
    return [prediction_of(row) for row in rows]


def _conditions(filters: Filters) -> Iterator[ColumnElement[bool]]:
    if filters.door is not None:
        yield predictions.c.door == filters.door
    if filters.model is not None:
        yield predictions.c.model == filters.model
    if filters.statuses:
        yield predictions.c.status.in_(filters.statuses)
    if filters.created_from_ms is not None:
        yield predictions.c.created_at_ms >= filters.created_from_ms
    if filters.created_before_ms is not None:
        yield predictions.c.created_at_ms < filters.created_before_ms


def purge_data(connection: Connection, *, before_ms: int, limit: int = PURGE_BATCH) -> int:
    """Delete input, output and event log of predictions that ended before *before_ms*; return their number.

    Token counts and cost are kept. Call it until it returns 0; each call is one short transaction.
    """
    ended = (
        select(predictions.c.id)
        .where(text(REMOVABLE), predictions.c.completed_at_ms < before_ms)
        .order_by(predictions.c.completed_at_ms)
        .limit(limit)
        .with_for_update(skip_locked=True, key_share=True)
    )
    ids = list(connection.execute(ended).scalars())
    if ids:
        connection.execute(
            update(predictions)
            .where(predictions.c.id.in_(ids))
            .values(input=None, output=None, prompt_digest=None, data_removed=True)
        )
        connection.execute(delete(stream_rows).where(stream_rows.c.prediction_id.in_(ids)))
    return len(ids)


def find_row(connection: Connection, prediction_id: str) -> RowMapping | None:
    """Get the row of any account's prediction, or None."""
    return connection.execute(_FIND, {"prediction_id": prediction_id}).mappings().one_or_none()


def row_of(connection: Connection, account_id: str | None, prediction_id: str) -> RowMapping:
    """Get the row of a prediction of the account, or of any account if *account_id* is None.

    Raises:
        UnknownPrediction: there is no such prediction.
    """
    row = None
    if prediction_id.isascii() and prediction_id.isprintable():  # others cannot be ids
        row = find_row(connection, prediction_id)
    if row is None or account_id not in (None, row["account_id"]):
        raise UnknownPrediction(f"There is no prediction '{prediction_id}'.")
    return row


def prediction_of(row: RowMapping | dict[str, Any]) -> Prediction:
    """Convert a row to a prediction. Columns that an earlier version wrote wrongly become None."""
    values: dict[str, Any] = {name: row[name] for name in Prediction.__slots__}
    values["status"] = Status(values["status"])
    if values["stopped_by"] not in set(StoppedBy):
        values["stopped_by"] = None
    if values["stopped_by"] is not None:
        values["stopped_by"] = StoppedBy(values["stopped_by"])
    if values["seed"] is not None:
        values["seed"] %= _SEED_MODULUS
    values["input"] = _input_of(values["input"])
    values["output"] = _readable(values["output"], list[list[str]])
    values["webhook"] = _webhook_of(values["webhook"])
    values["stops"] = _readable(values["stops"], list[int | None])
    for name in ("receipt", "notes"):
        values[name] = _readable(values[name], dict[str, Any])
    return Prediction(**values)


def _input_of(column: Any) -> dict[str, Any] | None:
    match column:
        case {"request": {"prompt": dict(), "choices": int(), "stopping": {"stop": list()}}, "shown": dict()}:
            return column
        case {"shown": dict()}:
            return {"request": _NO_REQUEST, "shown": column["shown"]}
        case _:
            return None


def _readable(column: Any, kind: type[T]) -> T | None:
    """Convert a JSON column to *kind*; None if it does not match."""
    try:
        return None if column is None else msgspec.convert(column, kind)
    except msgspec.ValidationError:
        return None


def _webhook_of(column: Any) -> Webhook | None:
    known = set(WebhookEvent)
    stored = _readable(column, _StoredWebhook)
    if stored is None:
        return None
    return Webhook(url=stored.url, events=frozenset(WebhookEvent(event) for event in stored.events if event in known))


class _StoredWebhook(msgspec.Struct):
    url: str
    events: list[str]


def price_in(row: RowMapping) -> Price:
    """Get the price stored in a prediction's row."""
    return Price(version=row["price_version"], input_nusd=row["input_nusd"], output_nusd=row["output_nusd"])


def webhook_column(webhook: Webhook | None) -> dict[str, Any] | None:
    """Encode a webhook for its JSON column; ``prediction_of`` decodes it."""
    return None if webhook is None else {"url": webhook.url, "events": sorted(webhook.events)}


def seed_column(seed: int | None) -> int | None:
    """Encode an unsigned 64-bit seed as a signed BIGINT; ``prediction_of`` decodes it."""
    return None if seed is None else (seed + _SEED_MODULUS // 2) % _SEED_MODULUS - _SEED_MODULUS // 2
