"""Salts from which, with the server's pepper, the accounts' webhook signing secrets are derived."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, bindparam, select, update

from corral.store.databases.inserts import insert_if_absent
from corral.store.schema import webhook_secrets


@dataclass(frozen=True, slots=True, kw_only=True)
class Salts:
    """Salts of one account."""

    current: bytes
    previous: bytes | None
    """None before the first rotation."""
    rotated_at_ms: int | None


_FIND: Final = select(
    webhook_secrets.c.salt.label("current"), webhook_secrets.c.previous_salt.label("previous"),
    webhook_secrets.c.rotated_at_ms,
).where(webhook_secrets.c.account_id == bindparam("account_id"))  # fmt: skip


def salts(connection: Connection, account_id: str) -> Salts | None:
    """Get the account's salts; None if it has none yet."""
    row = connection.execute(_FIND, {"account_id": account_id}).mappings().one_or_none()
    return None if row is None else Salts(**row)


def ensure(connection: Connection, account_id: str, fresh: bytes, *, now_ms: int) -> Salts:
    """Get the account's salts; store *fresh* if it has none. Safe with concurrent calls."""
    if (found := salts(connection, account_id)) is not None:
        return found
    insert_if_absent(connection, webhook_secrets, {"account_id": account_id, "salt": fresh, "created_at_ms": now_ms})
    made = salts(connection, account_id)
    if made is None:
        raise RuntimeError("the row that was just inserted is missing")
    return made


def rotate(connection: Connection, account_id: str, fresh: bytes, *, now_ms: int) -> Salts:
    """Make *fresh* the current salt and the current salt the previous one."""
    ensure(connection, account_id, fresh, now_ms=now_ms)
    mine = update(webhook_secrets).where(webhook_secrets.c.account_id == account_id, webhook_secrets.c.salt != fresh)
    connection.execute(mine.values(previous_salt=webhook_secrets.c.salt, salt=fresh, rotated_at_ms=now_ms))
    return ensure(connection, account_id, fresh, now_ms=now_ms)
