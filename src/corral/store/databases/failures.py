"""Translate database driver errors to Corral's, without data of rows.

Drivers quote the row that violates a constraint, with its prompt; that must not reach logs or callers.
"""

import sqlite3
from typing import Final, cast

from psycopg import Error as PsycopgError
from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from corral.core.errors import CorralError, InvalidRequest, Overloaded, StorageUnavailable

_RETRY_AFTER_S: Final = 1
_RETRYABLE: Final = frozenset({"40001", "40P01"})
"""SQLSTATEs of a serialization failure and of a deadlock: the transaction was rolled back and can be retried."""
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
_BUSY_SQLITE: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})


_STORAGE_MESSAGES: Final = {
    "25006": "The database cannot be written: it is read-only.",
    "53100": "The database cannot be written: its disk is full.",
}


class StoreFailed(RuntimeError):
    """The database refused a statement, because of a bug or a fault of the machine."""


class StoreClosed(RuntimeError):
    """The store was used after ``close``."""


def is_retryable(error: BaseException) -> bool:
    """Return whether the transaction was rolled back and may succeed when it is retried."""
    if not isinstance(error, DBAPIError):
        return False
    cause = error.orig
    state = cause.sqlstate if isinstance(cause, PsycopgError) else None
    return state in _RETRYABLE


def translate(error: BaseException) -> BaseException:
    """Translate a driver's error to one without data of rows; return other errors unchanged."""
    if isinstance(error, PoolTimeout):
        return Overloaded("The database is too busy.", retry_after_s=_RETRY_AFTER_S)
    if isinstance(error, OverflowError) and "SQLite" in str(error):  # "too large to convert to SQLite INTEGER"
        return InvalidRequest(_TOO_LARGE)
    if not isinstance(error, DBAPIError) or isinstance(error, CorralError):
        return error
    cause = error.orig
    if isinstance(cause, PsycopgError):
        return _translate_postgres(cause)
    if isinstance(cause, sqlite3.Error):
        return _translate_sqlite(cause)
    return StoreFailed(f"The database driver failed: {type(cause).__name__}.")


def describe_open_failure(error: DBAPIError, url: URL) -> str:
    """Describe why a database could not be opened or migrated, with its host or file but without its password."""
    cause = error.orig
    if not isinstance(cause, PsycopgError):
        return f"{url.database}: {translate(error)}"
    host = url.host or "its default socket"
    place = f"PostgreSQL at {f'[{host}]' if ':' in host else host}{f':{url.port}' if url.port else ''}"
    if cause.sqlstate is not None and not cause.sqlstate.startswith(_REFUSED_CLASSES):
        return f"{place}: {translate(error)}"
    # libpq's messages about connecting contain host, user and database, but no row or password. The first line is
    # about the first address; the reason follows "failed: " or "FATAL: ".
    message = (str(cause).splitlines() or [type(cause).__name__])[0]
    reason = message.rpartition("failed: ")[2].removeprefix("FATAL:").strip()
    return f"cannot connect to {place}: {reason}."


def _translate_postgres(cause: PsycopgError) -> Exception:
    state = cause.sqlstate
    # Without an SQLSTATE there was no response: the connection was lost or never made.
    if state is None or state.startswith(_STORAGE_CLASSES):
        return StorageUnavailable(_STORAGE_MESSAGES.get(state or "", "The database cannot be reached."))
    if state.startswith(_BUSY_CLASS) or state in _RETRYABLE:
        return Overloaded("The database is too busy.", retry_after_s=_RETRY_AFTER_S)
    if state == _OUT_OF_RANGE:
        return InvalidRequest(_TOO_LARGE)
    return StoreFailed(f"The database refused: {type(cause).__name__} {state}, {cause.diag.constraint_name}.")


def _translate_sqlite(cause: sqlite3.Error) -> Exception:
    # Errors of the module itself, such as a closed database or a wrong type, have no code.
    code = cast("int", getattr(cause, "sqlite_errorcode", -1))
    if code & 0xFF in _BUSY_SQLITE:
        return Overloaded("The database is too busy.", retry_after_s=_RETRY_AFTER_S)
    if code & 0xFF in _STORAGE_SQLITE:
        return StorageUnavailable(f"The database cannot be written: {cause}.")
    return StoreFailed(f"The database refused: {cause}.")
