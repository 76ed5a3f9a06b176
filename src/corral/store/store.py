"""The one way to the database: plain functions of a connection, run in a transaction, awaited from anywhere.

::

    store = Store.open("sqlite:////var/lib/corral/corral.db")
    account = await store.write(lambda c: create_account(c, name="Ann", now_ms=now_ms))

Knows how transactions are run, not what is in them.
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
from corral.store.databases.failures import StoreClosed, why_not_opened
from corral.store.databases.migrate import check_revision, migrate
from corral.store.databases.postgres import PostgresDatabase
from corral.store.databases.sqlite import SqliteDatabase
from corral.store.databases.sqlite_read_only import ReadOnlySqliteDatabase

_log = structlog.get_logger(__name__)

MAX_WAITING: Final = 10_000
"""Works that may wait or run at once; more are refused."""

T = TypeVar("T")


class _Database(Protocol):
    """What SQLite and PostgreSQL have in common."""

    engine: Engine
    commits: int

    def start(self) -> None: ...
    def submit_write(self, work: Callable[[Connection], Any]) -> Future[Any]: ...
    def submit_read(self, work: Callable[[Connection], Any]) -> Future[Any]: ...
    def close(self) -> None: ...


class Store:
    """An open database with the schema of this program."""

    def __init__(self, database: _Database) -> None:
        """Take *database* over; ``open`` is the way to get one."""
        self._database = database
        self._closed = False
        self._failure: str | None = None
        self._closing = threading.Lock()
        self._places = threading.Semaphore(MAX_WAITING)

    @classmethod
    def open(cls, url: str) -> "Store":
        """Open, and bring to the schema of this program. Blocks: call it before the event loop, or in a thread.

        Args:
            url: ``sqlite:////path/corral.db`` or ``postgresql://user:password@host/name``.

        Raises:
            BadSetting: the URL is neither, or the database cannot be used or is newer than this program.
        """
        database = _database(url)
        try:
            migrate(database.engine)
        except BaseException as error:
            database.close()
            if isinstance(error, DBAPIError):
                raise BadSetting(f"database_url: {why_not_opened(error, database.engine.url)}") from None
            raise
        database.start()
        return cls(database)

    @classmethod
    def open_to_read(cls, path: Path) -> "Store":
        """Open an SQLite file that may not be written; every ``write`` is refused.

        Raises:
            BadSetting: it cannot be read, or has another schema than this program's.
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
        """Transactions committed for writes since it was opened."""
        return self._database.commits

    @property
    def failure(self) -> str | None:
        """Why the last transaction could not be done, if the database cannot be written or reached; else None."""
        return self._failure

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run *work* in a transaction; return what it returns once that is on disk.

        An error in *work* undoes what it did and is raised here. It may be run again after a deadlock, so it must do
        nothing but use its connection. Cancelling the caller does not cancel it: it is done in full, or not at all.

        Raises:
            Overloaded: too much is waiting, or the database is locked.
            StorageUnavailable: the database cannot be written or reached. Of a commit whose answer was lost nobody
                knows whether it was done, so *work* must recognise what it did before it is tried again.
            StoreFailed: the database refused.
            StoreClosed: after ``close``.
        """
        done = await self._watched(self._database.submit_write, work)
        if self._failure is not None:
            self._failure = None
            _log.info("database_recovered")
        return done

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run *work* on one snapshot of everything committed. Raises as ``write`` does, also when *work* writes."""
        return await self._watched(self._database.submit_read, work)

    async def close(self) -> None:
        """Finish what was asked for, then let go of the database. Closing twice does nothing."""
        with self._closing:
            closed, self._closed = self._closed, True
        if not closed:
            await asyncio.to_thread(self._database.close)

    async def _watched(
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
        # Under the lock, so that nothing is queued behind the writer's last group.
        with self._closing:
            if self._closed:
                raise StoreClosed("The store is closed.")
            if not self._places.acquire(blocking=False):
                raise Overloaded("Too much is waiting for the database.", retry_after_s=1)
            reply = submit(work)
        reply.add_done_callback(lambda _: self._places.release())
        return cast("T", await asyncio.shield(asyncio.wrap_future(reply)))


_EXAMPLES: Final = "postgresql://user:password@host:5432/name or sqlite:////var/lib/corral/corral.db"


def _database(url: str) -> SqliteDatabase | PostgresDatabase:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # the value is not repeated: it may hold a password
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
