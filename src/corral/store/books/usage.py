"""Queries on usage records, which are kept forever, and on an account's spending."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from sqlalchemy import Connection, func, select

from corral.store.books.accounts import account_row, spending_day, spent
from corral.store.schema import usage_records

Dimension = Literal["day", "model", "key_id", "door", "account_id"]
DIMENSIONS: Final[tuple[Dimension, ...]] = ("day", "model", "key_id", "door")


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """A sum of usage records; dimensions that it is not grouped by are None."""

    day: str | None = None
    model: str | None = None
    key_id: str | None = None
    door: str | None = None
    account_id: str | None = None
    predictions: int
    prompt_tokens: int
    completion_tokens: int
    cost_nusd: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Spend:
    """An account's spending today and this month, and the amount held for running predictions."""

    today_nusd: int
    this_month_nusd: int
    held_nusd: int


def usage(
    connection: Connection,
    *,
    account_id: str | None = None,
    by: Sequence[Dimension] = DIMENSIONS,
    since_day: str | None = None,
    until_day: str | None = None,
) -> list[Usage]:
    """Sum the usage of one account or of all, grouped and ordered by *by*.

    Args:
        connection: the transaction's connection.
        account_id: None for all accounts.
        by: dimensions to group by.
        since_day: first day, ``YYYY-MM-DD`` in UTC; None for the first one.
        until_day: last day, inclusive.
    """
    split = [usage_records.c[name] for name in by]
    sums = [func.sum(usage_records.c[name]) for name in ("prompt_tokens", "completion_tokens", "cost_nusd")]
    wanted = select(*split, func.count(), *sums)
    if account_id is not None:
        wanted = wanted.where(usage_records.c.account_id == account_id)
    if since_day is not None:
        wanted = wanted.where(usage_records.c.day >= since_day)
    if until_day is not None:
        wanted = wanted.where(usage_records.c.day <= until_day)
    if split:
        wanted = wanted.group_by(*split).order_by(*split)
    found: list[Usage] = []
    for row in connection.execute(wanted):
        predictions, *totals = row[len(by) :]
        prompt_tokens, completion_tokens, cost_nusd = (int(total or 0) for total in totals)
        found.append(
            Usage(
                **dict(zip(by, row[: len(by)], strict=True)),
                predictions=predictions,
                prompt_tokens=prompt_tokens,
                completion_tokens=completion_tokens,
                cost_nusd=cost_nusd,
            )
        )
    return found


def spend(connection: Connection, account_id: str, *, now_ms: int) -> Spend | None:
    """Get an account's spending today and this month in UTC; None if there is no such account."""
    row = account_row(connection, account_id)
    if row is None:
        return None
    today_nusd, this_month_nusd = spent(row, spending_day(row, now_ms))
    return Spend(today_nusd=today_nusd, this_month_nusd=this_month_nusd, held_nusd=row["held_nusd"])
