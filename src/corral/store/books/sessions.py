"""Queries on the table of browser sessions. A cookie without a row is not signed in."""

from typing import Final

from sqlalchemy import Connection, bindparam, delete, insert, select

from corral.store.schema import sessions

MAX_PER_KEY: Final = 100
"""Most open sessions of one API key; a new session ends those that expire first."""

_OPEN: Final = select(sessions.c.digest).where(
    sessions.c.digest == bindparam("session"), sessions.c.expires_at_ms > bindparam("now_ms")
)


def begin(connection: Connection, digest: bytes, *, key_id: str, expires_at_ms: int, now_ms: int) -> None:
    """Insert a session; delete expired ones of every key, and this key's beyond ``MAX_PER_KEY``."""
    connection.execute(delete(sessions).where(sessions.c.expires_at_ms <= now_ms))
    kept = (
        select(sessions.c.digest)
        .where(sessions.c.key_id == key_id)
        .order_by(sessions.c.expires_at_ms.desc(), sessions.c.digest)
        .limit(MAX_PER_KEY - 1)
    )
    connection.execute(delete(sessions).where(sessions.c.key_id == key_id, sessions.c.digest.not_in(kept)))
    connection.execute(insert(sessions), {"digest": digest, "key_id": key_id, "expires_at_ms": expires_at_ms})


def end(connection: Connection, digest: bytes) -> None:
    """Delete a session. Idempotent."""
    connection.execute(delete(sessions).where(sessions.c.digest == digest))


def is_open(connection: Connection, digest: bytes, *, now_ms: int) -> bool:
    """Return whether the session exists and has not expired."""
    return connection.execute(_OPEN, {"session": digest, "now_ms": now_ms}).first() is not None
