"""What a database can answer instead of doing its work, in words that hold no row.

Drivers quote the row that broke a rule, prompt and all; nothing of that may reach a log.
"""

import sqlite3
from typing import Final, cast

from psycopg import Error as PsycopgError
from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from corral.core.errors import CorralError, InvalidRequest, Overloaded, StorageUnavailable

_RETRY_AFTER_S: Final = 1
_AGAIN: Final = frozenset({"40001", "40P01"})
"""SQLSTATEs of a serialization failure and of a deadlock: nothing was done, and the next try may succeed."""
_OUT_OF_RANGE: Final = "22003"
_TOO_LARGE: Final = f"A number in the request does not fit 64 bits: at most {2**63 - 1} can be stored."
_REFUSED_CLASSES: Final = ("08", "28", "3D", "53", "57")
"""SQLSTATE classes of a connection that was refused: no connection, wrong user, no database, exhausted, shut down."""
_BUSY_CLASS: Final = "55"
"""SQLSTATE class of lock timeouts."""
_STORAGE_CLASSES: Final = ("08", "25006", "53", "57", "58")
"""SQLSTATE classes of lost connections, a read-only database, exhausted resources, shutdowns and system errors."""
_STORAGE_SQLITE: Final = frozenset(
    {sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM}
)
_LATER_SQLITE: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})


_STORAGE_WORDS: Final = {
    "25006": "The database cannot be written: it is read-only.",
    "53100": "The database cannot be written: its disk is full.",
}


class StoreFailed(RuntimeError):
    """The database refused, which is a fault of this program or of the machine, not of a caller."""


class StoreClosed(RuntimeError):
    """Asked after ``close``."""


def may_be_repeated(error: BaseException) -> bool:
    """Whether the transaction left nothing behind and is worth another try at once."""
    if not isinstance(error, DBAPIError):
        return False
    cause = error.orig
    state = cause.sqlstate if isinstance(cause, PsycopgError) else None
    return state in _AGAIN


def told(error: BaseException) -> BaseException:
    """The error to hand on: a caller's own as it is, a database's without what it quotes."""
    if isinstance(error, PoolTimeout):
        return Overloaded("The database is too busy.", retry_after_s=_RETRY_AFTER_S)
    if isinstance(error, OverflowError) and "SQLite" in str(error):  # the driver's: "too large to convert to SQLite…"
        return InvalidRequest(_TOO_LARGE)
    if not isinstance(error, DBAPIError) or isinstance(error, CorralError):
        return error
    cause = error.orig
    if isinstance(cause, PsycopgError):
        return _told_by_postgres(cause)
    if isinstance(cause, sqlite3.Error):
        return _told_by_sqlite(cause)
    return StoreFailed(f"The database driver failed: {type(cause).__name__}.")


def why_not_opened(error: DBAPIError, url: URL) -> str:
    """Why a database could not be opened or migrated, with its host or file, and never its password."""
    cause = error.orig
    if not isinstance(cause, PsycopgError):
        return f"{url.database}: {told(error)}"
    host = url.host or "its default socket"
    place = f"PostgreSQL at {f'[{host}]' if ':' in host else host}{f':{url.port}' if url.port else ''}"
    if cause.sqlstate is not None and not cause.sqlstate.startswith(_REFUSED_CLASSES):
        return f"{place}: {told(error)}"
    # What libpq says while it connects names host, user and database, never a row or a password. The first line is
    # about the first address; "failed: " and "FATAL: " come before the reason.
    said = (str(cause).splitlines() or [type(cause).__name__])[0]
    reason = said.rpartition("failed: ")[2].removeprefix("FATAL:").strip()
    return f"cannot connect to {place}: {reason}."


def _told_by_postgres(cause: PsycopgError) -> Exception:
    state = cause.sqlstate
    # Without a state there was no answer: the connection is gone or was never made.
    if state is None or state.startswith(_STORAGE_CLASSES):
        return StorageUnavailable(_STORAGE_WORDS.get(state or "", "The database cannot be reached."))
    if state.startswith(_BUSY_CLASS) or state in _AGAIN:
        return Overloaded("The database is too busy.", retry_after_s=_RETRY_AFTER_S)
    if state == _OUT_OF_RANGE:
        return InvalidRequest(_TOO_LARGE)
    return StoreFailed(f"The database refused: {type(cause).__name__} {state}, {cause.diag.constraint_name}.")


def _told_by_sqlite(cause: sqlite3.Error) -> Exception:
    # Errors of the module itself (closed database, wrong type) have no code.
    code = cast("int", getattr(cause, "sqlite_errorcode", -1))
    if code & 0xFF in _LATER_SQLITE:
        return Overloaded("The database is too busy.", retry_after_s=_RETRY_AFTER_S)
    if code & 0xFF in _STORAGE_SQLITE:
        return StorageUnavailable(f"The database cannot be written: {cause}.")
    return StoreFailed(f"The database refused: {cause}.")
