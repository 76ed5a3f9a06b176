"""Queries on the accounts table: create, get, list, lock, credit and limits."""

from dataclasses import asdict
from typing import Any, Final

from sqlalchemy import Connection, RowMapping, bindparam, select, update

from corral.core.accounts import Account, Limits
from corral.core.errors import IdempotencyConflict, InsufficientCredit, InvalidRequest, NotFound
from corral.core.pricing import usd
from corral.store.books import ledger
from corral.store.books.days import day_of, month_of
from corral.store.books.ledger import transfer
from corral.store.databases.inserts import insert_if_absent
from corral.store.ids import new_id
from corral.store.schema import accounts

LOCAL_ACCOUNT_ID: Final = "acct_local00000000000"
"""Id of the unlimited account that a server creates at its first start."""
MAX_NAME_CHARS: Final = 200
_MAX_NUSD: Final = 2**62
"""Half the range of a BIGINT, so that the sum of two balances does not overflow."""

_FIND: Final = select(accounts).where(accounts.c.id == bindparam("account_id"))
# FOR NO KEY UPDATE: other transactions may insert rows with a foreign key to this account while it is locked.
_LOCK: Final = _FIND.with_for_update(key_share=True)
_LIST: Final = select(accounts).order_by(accounts.c.created_at_ms, accounts.c.id)
_MOVE: Final = (
    update(accounts)
    .where(accounts.c.id == bindparam("account_id"))
    .values(
        available_nusd=accounts.c.available_nusd + bindparam("available"),
        held_nusd=accounts.c.held_nusd + bindparam("held"),
    )
)
_SPEND: Final = _MOVE.values(
    spent_on=bindparam("day"),
    spent_that_day_nusd=bindparam("spent_that_day"),
    spent_that_month_nusd=bindparam("spent_that_month"),
)


def create_account(
    connection: Connection, *, name: str, unlimited: bool = False, limits: Limits | None = None, now_ms: int
) -> Account:
    """Create an account without credit.

    Raises:
        InvalidRequest: the name is taken, empty, too long or not printable, or a limit is out of range.
    """
    check_name(name)
    _check_limits(limits or Limits())
    row = _row(new_id("acct"), name, unlimited=unlimited, limits=limits or Limits(), now_ms=now_ms)
    if get_account(connection, name) is not None or not insert_if_absent(connection, accounts, row):
        raise InvalidRequest(f"An account named '{name}' already exists.", param="name")
    return account_of(row)


def ensure_local_account(connection: Connection, *, now_ms: int) -> Account:
    """Get the unlimited local account; create it if it does not exist."""
    found = get_account(connection, LOCAL_ACCOUNT_ID)
    if found is not None:
        return found
    row = _row(LOCAL_ACCOUNT_ID, "local", unlimited=True, limits=Limits(), now_ms=now_ms)
    if not insert_if_absent(connection, accounts, row) and get_account(connection, LOCAL_ACCOUNT_ID) is None:
        row["name"] = LOCAL_ACCOUNT_ID  # another account is named "local"
        insert_if_absent(connection, accounts, row)
    return get_account(connection, LOCAL_ACCOUNT_ID) or account_of(row)


def get_account(connection: Connection, account_id: str) -> Account | None:
    """Get an account by its id, or None."""
    row = account_row(connection, account_id)
    return None if row is None else account_of(row)


def list_accounts(connection: Connection) -> list[Account]:
    """List all accounts, oldest first."""
    return [account_of(row) for row in connection.execute(_LIST).mappings()]


def credit(
    connection: Connection,
    account_id: str,
    amount_nusd: int,
    *,
    note: str | None = None,
    idempotency_key: str | None = None,
    now_ms: int,
) -> Account:
    """Add credit to an account; a negative amount withdraws credit.

    With the *idempotency_key* of an earlier credit of the account, nothing is added.

    Raises:
        IdempotencyConflict: the earlier credit had another amount or note.
        NotFound: the account does not exist.
        InvalidRequest: the amount is 0, or it or the new balance is out of range.
        InsufficientCredit: the withdrawal exceeds the credit that is not held for runs.
    """
    row = lock_account(connection, account_id)
    if row is None:
        raise NotFound(f"There is no account '{account_id}'.", param="account")
    transfer_id = new_id(ledger.CREDIT) if idempotency_key is None else f"credit:{account_id}:{idempotency_key}"
    if (entry := ledger.find_entry(connection, transfer_id, book=ledger.available(account_id))) is not None:
        if (entry["amount_nusd"], entry["note"]) != (amount_nusd, note):
            raise IdempotencyConflict("The idempotency key belongs to a credit with other values.")
        return account_of(row)
    after_nusd = row["available_nusd"] + amount_nusd
    if amount_nusd == 0 or max(abs(amount_nusd), abs(after_nusd)) > _MAX_NUSD:
        raise InvalidRequest(f"${usd(amount_nusd)} cannot be credited: it is 0 or too large.", param="amount")
    if amount_nusd < 0 and after_nusd < 0:
        raise InsufficientCredit(
            f"${usd(-amount_nusd)} cannot be withdrawn: the account has ${usd(row['available_nusd'])} of credit left."
        )
    transfer(
        connection,
        transfer_id,
        kind=ledger.CREDIT,
        amounts_nusd={ledger.FUNDING: -amount_nusd, ledger.available(account_id): amount_nusd},
        at_ms=now_ms,
        note=note,
    )
    move(connection, account_id, available_nusd=amount_nusd, held_nusd=0)
    return account_of({**row, "available_nusd": after_nusd})


def set_limits(connection: Connection, account_id: str, limits: Limits) -> Account:
    """Replace an account's limits. Running predictions are not affected.

    Raises:
        NotFound: the account does not exist.
        InvalidRequest: a limit is out of range.
    """
    _check_limits(limits)
    row = lock_account(connection, account_id)
    if row is None:
        raise NotFound(f"There is no account '{account_id}'.", param="account")
    connection.execute(update(accounts).where(accounts.c.id == account_id).values(**asdict(limits)))
    return account_of({**row, **asdict(limits)})


def lock_account(connection: Connection, account_id: str) -> RowMapping | None:
    """Lock and return an account's row until the transaction ends. Must be the first lock of a transaction."""
    return connection.execute(_LOCK, {"account_id": account_id}).mappings().one_or_none()


def account_row(connection: Connection, account_id: str) -> RowMapping | None:
    """Get an account's row without a lock, for reading only."""
    return connection.execute(_FIND, {"account_id": account_id}).mappings().one_or_none()


def move(connection: Connection, account_id: str, *, available_nusd: int, held_nusd: int) -> None:
    """Add amounts to the balances of a locked account."""
    connection.execute(_MOVE, {"account_id": account_id, "available": available_nusd, "held": held_nusd})


def spend(connection: Connection, row: RowMapping, *, hold_nusd: int, cost_nusd: int, day: str) -> None:
    """Release a hold on the locked account *row*, and add its cost to the spending of *day* (see ``spent``)."""
    that_day_nusd, that_month_nusd = spent(row, day)
    connection.execute(
        _SPEND,
        {
            "account_id": row["id"],
            "available": hold_nusd - cost_nusd,
            "held": -hold_nusd,
            "day": day,
            "spent_that_day": that_day_nusd + cost_nusd,
            "spent_that_month": that_month_nusd + cost_nusd,
        },
    )


def spending_day(row: RowMapping, now_ms: int) -> str:
    """Get the current day of an account: never before the day of its last spending, even if the clock was set back."""
    return max(row["spent_on"], day_of(now_ms))


def spent(row: RowMapping, day: str) -> tuple[int, int]:
    """Get the account's spending on *day* and in its month. *day* must not be before its last spending."""
    return (
        row["spent_that_day_nusd"] if row["spent_on"] == day else 0,
        row["spent_that_month_nusd"] if month_of(row["spent_on"]) == month_of(day) else 0,
    )


def account_of(row: RowMapping | dict[str, Any]) -> Account:
    """Convert a row to an account."""
    values: dict[str, Any] = dict(row)
    limits = Limits(**{name: values[name] for name in Limits.__slots__})
    names = ("id", "name", "unlimited", "created_at_ms", "available_nusd", "held_nusd")
    return Account(limits=limits, **{name: values[name] for name in names})


def check_name(name: str) -> None:
    """Check the name of an account or key.

    Raises:
        InvalidRequest: the name is empty, too long or not printable.
    """
    if not 0 < len(name) <= MAX_NAME_CHARS or not name.isprintable():
        raise InvalidRequest(f"A name must have 1 to {MAX_NAME_CHARS} printable characters.", param="name")


def _row(account_id: str, name: str, *, unlimited: bool, limits: Limits, now_ms: int) -> dict[str, Any]:
    return {
        "id": account_id,
        "name": name,
        "unlimited": unlimited,
        **asdict(limits),
        "available_nusd": 0,
        "held_nusd": 0,
        "spent_on": day_of(now_ms),
        "spent_that_day_nusd": 0,
        "spent_that_month_nusd": 0,
        "created_at_ms": now_ms,
    }


def _check_limits(limits: Limits) -> None:
    for name, value in asdict(limits).items():
        least = 0 if name.endswith("_nusd") else 1
        if value is not None and not least <= value <= _MAX_NUSD:
            raise InvalidRequest(f"'{name}' is {value}, but must be from {least} to {_MAX_NUSD}.", param=name)
