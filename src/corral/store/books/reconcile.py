"""Consistency check of ledger, balances, predictions, receipts, usage and engine counters.

Each function yields one sentence for each difference. Run it in a read transaction, so that it sees one snapshot.
"""

from collections.abc import Iterator
from typing import Any, Final

from sqlalchemy import Connection, RowMapping, case, func, or_, select

from corral.core.prediction import Status
from corral.core.pricing import verify
from corral.store.books import ledger
from corral.store.books.days import month_of
from corral.store.schema import (
    accounts,
    api_keys,
    engine_counters,
    ledger_entries,
    predictions,
    usage_records,
)

_CHUNK: Final = 1000


def reconcile(connection: Connection) -> list[str]:
    """Run all checks; return one sentence for each difference."""
    checks = (_transfers, _balances, _keys, _spends, _predictions, _revenue, _engine)
    return [difference for check in checks for difference in check(connection)]


def _transfers(connection: Connection) -> Iterator[str]:
    total = func.sum(ledger_entries.c.amount_nusd)
    unbalanced = select(ledger_entries.c.transfer_id, total).group_by(ledger_entries.c.transfer_id).having(total != 0)
    for transfer_id, nusd in connection.execute(unbalanced):
        yield f"Transfer {transfer_id} sums to {nusd} nano-dollars instead of 0."


def _balances(connection: Connection) -> Iterator[str]:
    books = _sums(connection, ledger_entries.c.book, ledger_entries.c.amount_nusd)
    holds = _sums(connection, predictions.c.account_id, predictions.c.hold_nusd)
    for row in connection.execute(select(accounts)).mappings():
        account_id = row["id"]
        available_nusd = books.pop(ledger.available(account_id), 0)
        held_nusd = books.pop(ledger.held(account_id), 0)
        yield from _differ(f"Account {account_id} available", row["available_nusd"], "the ledger", available_nusd)
        yield from _differ(f"Account {account_id} held", row["held_nusd"], "the ledger", held_nusd)
        running_nusd = holds.get(account_id, 0)
        yield from _differ(f"Account {account_id} held", row["held_nusd"], "its unfinished predictions", running_nusd)
        if row["available_nusd"] < 0 and not row["unlimited"]:
            yield f"Account {account_id} is prepaid, and has {row['available_nusd']} nano-dollars."
    for book in books.keys() - {ledger.REVENUE, ledger.FUNDING}:
        yield f"The ledger has a book '{book}' without an account."


def _keys(connection: Connection) -> Iterator[str]:
    used = _sums(connection, usage_records.c.key_id, usage_records.c.cost_nusd)
    holds = _sums(connection, predictions.c.key_id, predictions.c.hold_nusd)
    for key_id, nusd in connection.execute(select(api_keys.c.id, api_keys.c.spent_nusd)):
        recorded_nusd = used.get(key_id, 0) + holds.get(key_id, 0)
        yield from _differ(f"Key {key_id} spent", nusd, "its usage and holds", recorded_nusd)


def _spends(connection: Connection) -> Iterator[str]:
    """Compare the spending that the daily and monthly limits use with the usage records."""
    by_day = select(usage_records.c.account_id, usage_records.c.day, func.sum(usage_records.c.cost_nusd)).group_by(
        usage_records.c.account_id, usage_records.c.day
    )
    days: dict[tuple[str, str], int] = {}
    months: dict[tuple[str, str], int] = {}
    for account_id, day, nusd in connection.execute(by_day):
        month = (account_id, month_of(day))
        days[account_id, day] = int(nusd)
        months[month] = months.get(month, 0) + int(nusd)
    for row in connection.execute(select(accounts)).mappings():
        account_id, day = row["id"], row["spent_on"]
        of_day, of_month = days.get((account_id, day), 0), months.get((account_id, month_of(day)), 0)
        yield from _differ(f"Account {account_id} on {day} spent", row["spent_that_day_nusd"], "its usage", of_day)
        yield from _differ(
            f"Account {account_id} in {month_of(day)} spent", row["spent_that_month_nusd"], "its usage", of_month
        )


def _predictions(connection: Connection) -> Iterator[str]:
    def entered(condition: Any) -> Any:
        amount = case((condition, ledger_entries.c.amount_nusd), else_=0)
        return func.sum(amount)

    def transfers(kind: str) -> Any:
        return func.count(case((ledger_entries.c.kind == kind, ledger_entries.c.transfer_id)).distinct())

    moved = (
        select(
            ledger_entries.c.prediction_id,
            entered(ledger_entries.c.book == ledger.REVENUE).label("revenue_nusd"),
            entered(ledger_entries.c.book.startswith("held:")).label("still_held_nusd"),
            transfers(ledger.HOLD).label("holds"),
            transfers(ledger.SETTLE).label("settlements"),
        )
        .where(ledger_entries.c.prediction_id.is_not(None))
        .group_by(ledger_entries.c.prediction_id)
        .subquery()
    )
    both = (
        select(
            predictions,
            moved.c.revenue_nusd,
            moved.c.still_held_nusd,
            moved.c.holds,
            moved.c.settlements,
            usage_records.c.cost_nusd.label("used_nusd"),
            usage_records.c.prompt_tokens.label("used_prompt_tokens"),
            usage_records.c.completion_tokens.label("used_completion_tokens"),
        )
        .outerjoin(moved, moved.c.prediction_id == predictions.c.id)
        .outerjoin(usage_records, usage_records.c.prediction_id == predictions.c.id)
    )
    for row in connection.execution_options(yield_per=_CHUNK).execute(both).mappings():
        name = f"Prediction {row['id']}"
        yield from _differ(f"{name} held", row["hold_nusd"], "the ledger", int(row["still_held_nusd"] or 0))
        yield from _settled(name, row) if Status(row["status"]).terminal else _running(name, row)


def _running(name: str, row: RowMapping) -> Iterator[str]:
    if row["used_nusd"] is not None or row["settlements"]:
        yield f"{name} is {row['status']}, but was billed."
    expected = 1 if row["hold_nusd"] else 0
    if (row["holds"] or 0) != expected:
        yield f"{name} has {row['holds'] or 0} hold transfers instead of {expected}."


def _settled(name: str, row: RowMapping) -> Iterator[str]:
    cost_nusd, receipt = row["cost_nusd"], row["receipt"]
    if row["used_nusd"] is None:
        yield f"{name} has no usage record."
    else:
        yield from _differ(f"{name} cost", cost_nusd, "its usage record", row["used_nusd"])
        yield from _differ(
            f"{name} completion tokens", row["completion_tokens"], "its usage record", row["used_completion_tokens"]
        )
    # A run without cost has neither; all others have one of each.
    if (row["holds"] or 0) != (row["settlements"] or 0):
        yield f"{name} has {row['holds'] or 0} hold transfers and {row['settlements'] or 0} settlements."
    yield from _differ(f"{name} cost", cost_nusd, "the ledger's revenue", int(row["revenue_nusd"] or 0))
    if receipt is None:
        yield f"{name} has no receipt."
        return
    for problem in verify(receipt):
        yield f"{name}: {problem}"
    for mine, its in (
        ("id", "prediction_id"),
        ("account_id", "account_id"),
        ("model", "model"),
        ("price_version", "price_version"),
        ("completion_tokens", "completion_tokens"),
        ("cost_nusd", "total_nusd"),
        ("used_prompt_tokens", "prompt_tokens"),
        ("stopped_by", "stopped_by"),
    ):
        if row[mine] != receipt.get(its):
            yield f"{name}: {mine} is {row[mine]!r}, its receipt says {receipt.get(its)!r}."


def _revenue(connection: Connection) -> Iterator[str]:
    entered = select(func.sum(ledger_entries.c.amount_nusd)).where(ledger_entries.c.book == ledger.REVENUE)
    used = select(func.sum(usage_records.c.cost_nusd))
    yield from _differ("Revenue", _scalar(connection, entered), "all usage", _scalar(connection, used))


def _engine(connection: Connection) -> Iterator[str]:
    delivered = _scalar(connection, select(func.sum(engine_counters.c.delivered_tokens)))
    received = _scalar(connection, select(func.sum(predictions.c.engine_tokens)))
    if delivered != received:
        yield f"Engines delivered {delivered} tokens, predictions received {received}."
    unearned = select(predictions.c.id, predictions.c.completion_tokens, predictions.c.engine_tokens).where(
        or_(predictions.c.completion_tokens > predictions.c.engine_tokens, predictions.c.engine_tokens < 0)
    )
    for prediction_id, billed, tokens in connection.execute(unearned):
        yield f"Prediction {prediction_id} is billed for {billed} tokens, the engine delivered {tokens}."


def _sums(connection: Connection, key: Any, amount: Any) -> dict[str, int]:
    return {name: int(total) for name, total in connection.execute(select(key, func.sum(amount)).group_by(key))}


def _scalar(connection: Connection, statement: Any) -> int:
    return int(connection.execute(statement).scalar() or 0)


def _differ(what: str, stored_nusd: int, other: str, other_nusd: int) -> Iterator[str]:
    if stored_nusd != other_nusd:
        yield f"{what}: {stored_nusd} is stored, {other} says {other_nusd}."
