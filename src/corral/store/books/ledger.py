"""Double-entry ledger: append-only transfers between books, each summing to zero.

The books are ``available:<account>``, ``held:<account>``, ``revenue``, and ``funding``, the source of credit. The
balance of a book is the sum of its entries.
"""

from collections.abc import Mapping
from typing import Final

from sqlalchemy import Connection, RowMapping, insert, select

from corral.store.schema import ledger_entries

REVENUE: Final = "revenue"
FUNDING: Final = "funding"
HOLD: Final = "hold"
SETTLE: Final = "settle"
CREDIT: Final = "credit"

_INSERT: Final = insert(ledger_entries)


class Misbilled(RuntimeError):
    """A transfer or bill is inconsistent, which is a bug. Nothing was written."""


def available(account_id: str) -> str:
    """Name of the book for an account's available credit."""
    return f"available:{account_id}"


def held(account_id: str) -> str:
    """Name of the book for the amounts held for an account's running predictions."""
    return f"held:{account_id}"


def transfer(
    connection: Connection,
    transfer_id: str,
    *,
    kind: str,
    amounts_nusd: Mapping[str, int],
    at_ms: int,
    prediction_id: str | None = None,
    note: str | None = None,
) -> None:
    """Insert a transfer of *amounts_nusd*, by book; amounts of 0 get no entry.

    Raises:
        Misbilled: the amounts do not sum to zero.
    """
    if sum(amounts_nusd.values()) != 0:
        raise Misbilled(f"The amounts of {transfer_id} sum to {sum(amounts_nusd.values())}, not to 0.")
    entries = [
        {
            "transfer_id": transfer_id,
            "book": book,
            "amount_nusd": amount_nusd,
            "kind": kind,
            "prediction_id": prediction_id,
            "note": note,
            "at_ms": at_ms,
        }
        for book, amount_nusd in amounts_nusd.items()
        if amount_nusd != 0
    ]
    if entries:
        connection.execute(_INSERT, entries)


def find_entry(connection: Connection, transfer_id: str, *, book: str) -> RowMapping | None:
    """Get a transfer's entry in *book*, or None."""
    found = select(ledger_entries).where(ledger_entries.c.transfer_id == transfer_id, ledger_entries.c.book == book)
    return connection.execute(found).mappings().one_or_none()
