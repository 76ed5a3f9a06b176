"""Access to the database: runs functions of a connection in transactions, on threads, and awaits them.

::

    store = Store.open("sqlite:////var/lib/corral/corral.db")
    account = await store.write(lambda c: create_account(c, name="Ann", now_ms=now_ms))

The functions are in the other modules of this package.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar, cast

import structlog
from sqlalchemy import URL, Connection, Engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from corral.core.errors import BadSetting, Overloaded, StorageUnavailable
from corral.store.databases.failures import StoreClosed, describe_open_failure
from corral.store.databases.migrate import check_revision, migrate
from corral.store.databases.postgres import PostgresDatabase
from corral.store.databases.sqlite import SqliteDatabase
from corral.store.databases.sqlite_read_only import ReadOnlySqliteDatabase

_log = structlog.get_logger(__name__)

MAX_WAITING: Final = 10_000
"""Most transactions that may be queued or running; more are refused."""

T = TypeVar("T")


class _Database(Protocol):
    """Interface of the SQLite and PostgreSQL backends."""

    engine: Engine
    commits: int

    def start(self) -> None: ...
    def submit_write(self, work: Callable[[Connection], Any]) -> Future[Any]: ...
    def submit_read(self, work: Callable[[Connection], Any]) -> Future[Any]: ...
    def close(self) -> None: ...


class Store:
    """An open database with the current schema."""

    def __init__(self, database: _Database) -> None:
        """Use ``open`` or ``open_read_only`` to create a store."""
        self._database = database
        self._closed = False
        self._failure: str | None = None
        self._closing = threading.Lock()
        self._places = threading.Semaphore(MAX_WAITING)

    @classmethod
    def open(cls, url: str) -> "Store":
        """Open a database and migrate it to the current schema. Blocks: call it before the event loop, or in a thread.

        Args:
            url: ``sqlite:////path/corral.db`` or ``postgresql://user:password@host/name``.

        Raises:
            BadSetting: the URL is not supported, or the database cannot be used or has a newer schema.
        """
        database = _database(url)
        try:
            migrate(database.engine)
        except BaseException as error:
            database.close()
            if isinstance(error, DBAPIError):
                raise BadSetting(f"database_url: {describe_open_failure(error, database.engine.url)}") from None
            raise
        database.start()
        return cls(database)

    @classmethod
    def open_read_only(cls, path: Path) -> "Store":
        """Open an SQLite file without write permission; every ``write`` is refused.

        Raises:
            BadSetting: the file cannot be read, or its schema is not the current one.
        """
        database = ReadOnlySqliteDatabase(path)
        try:
            check_revision(database.engine)
        except BaseException:
            database.close()
            raise
        return cls(database)

    @property
    def commits(self) -> int:
        """Number of write transactions committed since the store was opened."""
        return self._database.commits

    @property
    def failure(self) -> str | None:
        """Why the last transaction failed, if the database cannot be written or reached; else None."""
        return self._failure

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run *work* in a transaction; return its result after the commit.

        An error in *work* rolls the transaction back and is raised here. *work* is run again after a deadlock, so it
        must have no effects besides those on its connection. Cancelling the caller does not cancel the transaction.

        Raises:
            Overloaded: too many transactions are queued, or the database is locked.
            StorageUnavailable: the database cannot be written or reached. If the response to a commit was lost, the
                transaction may have been committed, so *work* must detect that before it is retried.
            StoreFailed: the database refused a statement.
            StoreClosed: the store was closed.
        """
        done = await self._submit(self._database.submit_write, work)
        if self._failure is not None:
            self._failure = None
            _log.info("database_recovered")
        return done

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run *work* in a read-only transaction with one snapshot. Raises as ``write`` does, also if *work* writes."""
        return await self._submit(self._database.submit_read, work)

    async def close(self) -> None:
        """Wait for queued transactions, then close the connections. Idempotent."""
        with self._closing:
            closed, self._closed = self._closed, True
        if not closed:
            await asyncio.to_thread(self._database.close)

    async def _submit(
        self, submit: Callable[[Callable[[Connection], Any]], Future[Any]], work: Callable[[Connection], T]
    ) -> T:
        try:
            return await self._wait(submit, work)
        except StorageUnavailable as error:
            if self._failure is None:
                _log.error("database_unavailable", reason=str(error))
            self._failure = str(error)
            raise

    async def _wait(
        self, submit: Callable[[Callable[[Connection], Any]], Future[Any]], work: Callable[[Connection], T]
    ) -> T:
        # Under the lock, so that nothing is queued after the writer's last group.
        with self._closing:
            if self._closed:
                raise StoreClosed("The store is closed.")
            if not self._places.acquire(blocking=False):
                raise Overloaded("Too many transactions are waiting for the database.", retry_after_s=1)
            reply = submit(work)
        reply.add_done_callback(lambda _: self._places.release())
        return cast("T", await asyncio.shield(asyncio.wrap_future(reply)))


_EXAMPLES: Final = "postgresql://user:password@host:5432/name or sqlite:////var/lib/corral/corral.db"


def _database(url: str) -> SqliteDatabase | PostgresDatabase:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # without the value, which may contain a password
        raise BadSetting(f"database_url: it is not a URL. Give one such as {_EXAMPLES}.") from None
    match parsed.drivername:
        case "sqlite":
            return SqliteDatabase(_file(parsed))
        case "postgresql" | "postgres" | "postgresql+psycopg":
            return PostgresDatabase(parsed.set(drivername="postgresql+psycopg"))
        case other:
            raise BadSetting(f"database_url: '{other}' is not supported. Give a URL such as {_EXAMPLES}.")


def _file(url: URL) -> Path:
    if not url.database or url.database == ":memory:" or url.query:
        raise BadSetting("database_url: it must name a file, as in sqlite:////var/lib/corral/corral.db.")
    return Path(url.database)
