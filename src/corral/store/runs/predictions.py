"""Predictions as rows: found, listed, and rid of their text when its time is up."""

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
REMOVAL_BATCH: Final = 500
_SEED_MODULUS: Final = 2**64

T = TypeVar("T")
_NO_REQUEST: Final[dict[str, Any]] = {"prompt": {}, "choices": 1, "stopping": {"stop": []}}
"""Of an input whose core request cannot be read; its run cannot be continued."""

_FIND: Final = select(predictions).where(predictions.c.id == bindparam("prediction_id"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which predictions are listed; what is not given lets all through."""

    door: str | None = None
    model: str | None = None
    """Its id in the catalog."""
    statuses: Collection[Status] = ()
    """As stored: one that has just begun to emit may still be stored as starting."""
    created_from_ms: int | None = None
    """Then or later."""
    created_before_ms: int | None = None


EVERY: Final = Filters()


def get(connection: Connection, account_id: str, prediction_id: str) -> Prediction:
    """One of the account's predictions.

    Raises:
        UnknownPrediction: the account has none of that id.
    """
    return prediction_of(row_of(connection, account_id, prediction_id))


def find(connection: Connection, prediction_id: str) -> Prediction:
    """The prediction of that id, whosever it is: for those who proved otherwise that they may see it.

    Raises:
        UnknownPrediction: there is none.
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
    """The account's predictions, newest first, from the one after the id *before* on; at most PAGE.

    Those whose request was answered with an error before anything was run are left out: the caller knows of none.

    Args:
        connection: of the transaction.
        account_id: whose.
        before: only those older than this one.
        filters: only those that fulfil all of them.
        limit: at most so many.

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


def remove_data(connection: Connection, *, before_ms: int, limit: int = REMOVAL_BATCH) -> int:
    """Remove input, output and log of predictions that ended before *before_ms*; how many. Counts and cost stay.

    Call it until it returns 0: each call is one short transaction.
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
    """One prediction's row, any account's; None if there is none of that id."""
    return connection.execute(_FIND, {"prediction_id": prediction_id}).mappings().one_or_none()


def row_of(connection: Connection, account_id: str | None, prediction_id: str) -> RowMapping:
    """One prediction's row; an *account_id* of None is any account's.

    Raises:
        UnknownPrediction: the account has none of that id.
    """
    row = None
    if prediction_id.isascii() and prediction_id.isprintable():  # others no database need be asked for
        row = find_row(connection, prediction_id)
    if row is None or account_id not in (None, row["account_id"]):
        raise UnknownPrediction(f"There is no prediction '{prediction_id}'.")
    return row


def prediction_of(row: RowMapping | dict[str, Any]) -> Prediction:
    """A prediction from its row. What an earlier version damaged is left out, so that the rest can be shown."""
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
    """A JSON column as *kind*; None where it is not of that shape."""
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
    """The price in a prediction's row."""
    return Price(version=row["price_version"], input_nusd=row["input_nusd"], output_nusd=row["output_nusd"])


def webhook_column(webhook: Webhook | None) -> dict[str, Any] | None:
    """A webhook as JSON; ``prediction_of`` undoes it."""
    return None if webhook is None else {"url": webhook.url, "events": sorted(webhook.events)}


def seed_column(seed: int | None) -> int | None:
    """A seed of 64 bits without sign as the signed one that a BIGINT holds; ``prediction_of`` undoes it."""
    return None if seed is None else (seed + _SEED_MODULUS // 2) % _SEED_MODULUS - _SEED_MODULUS // 2
