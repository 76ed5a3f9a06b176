"""Read-only SQLite backend, for a file that this process may not write, such as a backup."""

import sqlite3
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from corral.core.errors import BadSetting
from corral.store.databases.failures import translate

_BUSY_TIMEOUT_S: Final = 30


class ReadOnlySqliteDatabase:
    """An SQLite file, read by the calling thread. Writes are refused."""

    def __init__(self, path: Path) -> None:
        """Open the file, which must exist.

        Raises:
            BadSetting: the file cannot be read without writing to it.
        """
        self.commits = 0
        """Always 0."""
        self._path = path
        try:
            connection = _connect(path)
        except sqlite3.Error as error:
            raise BadSetting(
                f"The database {path} cannot be read: {error}. Run the command as a user who may write it."
            ) from error
        self.engine = create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool, hide_parameters=True)

    def start(self) -> None:
        """Do nothing: there is no thread."""

    def submit_write(self, work: Callable[[Connection], Any]) -> Future[Any]:  # noqa: ARG002 - a backend's signature
        """Refuse with a ``BadSetting``."""
        refused: Future[Any] = Future()
        refused.set_exception(
            BadSetting(f"The database {self._path} cannot be written. Run the command as a user who may write it.")
        )
        return refused

    def submit_read(self, work: Callable[[Connection], Any]) -> Future[Any]:
        """Run *work* immediately, with one snapshot."""
        reply: Future[Any] = Future()
        try:
            with self.engine.begin() as connection:
                reply.set_result(work(connection))
        except DBAPIError as error:
            reply.set_exception(translate(error))
        except Exception as error:  # noqa: BLE001 - raised to the caller
            reply.set_exception(error)
        return reply

    def close(self) -> None:
        """Close the file."""
        self.engine.dispose()


def _connect(path: Path) -> sqlite3.Connection:
    """Open the file without writing to it or beside it.

    A database in WAL mode needs the files ``-wal`` and ``-shm``, or permission to create them. Without a ``-wal`` no
    process has it open, so it can be opened as a file that does not change (``immutable``).

    Raises:
        sqlite3.Error: the file is not a database, or its last changes are in a ``-wal`` that cannot be read.
    """
    log = path.with_name(f"{path.name}-wal")
    immutable = "" if log.exists() and log.stat().st_size else "&immutable=1"
    connection = sqlite3.connect(
        f"file:{quote(str(path.resolve()))}?mode=ro{immutable}",
        uri=True,
        timeout=_BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.Error:
        connection.close()
        raise
    return connection
