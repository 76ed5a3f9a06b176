"""SQLite backend: one writer thread with group commit, and a few reader threads.

Each commit syncs the disk, whatever its size. The writer therefore runs all queued functions in one transaction, each
in its own savepoint, and commits once. Callers get their results after the commit.
"""

import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from corral.core.errors import BadSetting
from corral.store.databases.failures import translate
from corral.store.databases.json_text import dumps, loads

BUSY_TIMEOUT_MS: Final = 30_000
"""How long this process waits while another process writes."""
READERS: Final = 4
MAX_GROUP: Final = 512
"""Most functions in one commit; bounds how long the first of them waits."""
_WAL_TRIES: Final = 100
_WAL_PAUSE_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class _Job:
    """A queued function and the future for its result."""

    work: Callable[[Connection], Any]
    reply: Future[Any]


@dataclass(frozen=True, slots=True)
class _Outcome:
    """Result or error of a function in a group."""

    value: Any = None
    error: BaseException | None = None

    def deliver(self, reply: Future[Any]) -> None:
        if self.error is None:
            reply.set_result(self.value)
        else:
            reply.set_exception(translate(self.error))


class SqliteDatabase:
    """An SQLite file, which other processes may write at the same time."""

    def __init__(self, path: Path) -> None:
        """Create the file if it does not exist, readable by its owner only.

        Raises:
            BadSetting: the file cannot be created or is not a database.
        """
        self.commits = 0
        """Transactions committed by the writer."""
        _prepare(path)
        self.engine = _engine(path, begin="BEGIN IMMEDIATE", connections=1)
        self._readers = _engine(path, begin="BEGIN", connections=READERS, pragmas=("query_only=ON",))
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="store-read")
        # A daemon thread does not keep a process alive that exits without closing its store.
        self._writer = threading.Thread(target=self._run_writer, name="store-write", daemon=True)

    def start(self) -> None:
        """Start the writer thread; the schema must be migrated."""
        self._writer.start()

    def submit_write(self, work: Callable[[Connection], Any]) -> Future[Any]:
        """Queue *work* for the next commit."""
        job = _Job(work, Future())
        self._queue.put(job)
        return job.reply

    def submit_read(self, work: Callable[[Connection], Any]) -> Future[Any]:
        """Run *work* in a read-only transaction with one snapshot."""
        return self._pool.submit(self._read, work)

    def close(self) -> None:
        """Finish queued transactions, then close the file. Blocks."""
        if self._writer.is_alive():
            self._queue.put(None)
            self._writer.join()
        self._pool.shutdown()
        self._readers.dispose()
        self.engine.dispose()

    def _run_writer(self) -> None:
        closing = False
        while not closing:
            group = self._next_group()
            closing = None in group
            self._commit([job for job in group if job is not None])

    def _next_group(self) -> list[_Job | None]:
        group = [self._queue.get()]
        while len(group) < MAX_GROUP:
            try:
                group.append(self._queue.get_nowait())
            except queue.Empty:
                break
        return group

    def _commit(self, group: list[_Job]) -> None:
        if not group:
            return
        outcomes: list[_Outcome] = []
        try:
            with self.engine.begin() as connection:
                outcomes.extend(_attempt(connection, job.work) for job in group)
            self.commits += 1
        except BaseException as error:  # noqa: BLE001 - raised to the callers of this group
            lost = _Outcome(error=error)
            outcomes = [lost if outcome.error is None else outcome for outcome in outcomes]
            outcomes += [lost] * (len(group) - len(outcomes))
        for job, outcome in zip(group, outcomes, strict=True):
            outcome.deliver(job.reply)

    def _read(self, work: Callable[[Connection], Any]) -> Any:
        try:
            with self._readers.begin() as connection:
                return work(connection)
        except (DBAPIError, OverflowError) as error:
            raise translate(error) from None


def _attempt(connection: Connection, work: Callable[[Connection], Any]) -> _Outcome:
    """Run a function in its own savepoint. Raises only if the rollback fails, which rolls back the whole group."""
    connection.exec_driver_sql("SAVEPOINT work")
    try:
        value = work(connection)
    except BaseException as error:  # noqa: BLE001 - raised to the caller
        try:
            connection.exec_driver_sql("ROLLBACK TO work")
        except DBAPIError:
            # A full disk or an I/O error rolls back the whole transaction with its savepoints; report that error.
            raise error from None
        outcome = _Outcome(error=error)
    else:
        outcome = _Outcome(value=value)
    connection.exec_driver_sql("RELEASE work")
    return outcome


def _prepare(path: Path) -> None:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        _enter_wal(path)
    except (OSError, sqlite3.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise BadSetting(f"The database {path} cannot be used: {reason}.") from error


def _enter_wal(path: Path) -> None:
    """Enable write-ahead logging, so that readers and the writer do not block each other. The file keeps the mode."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT_MS / 1000)
    try:
        for left in reversed(range(_WAL_TRIES)):
            try:
                connection.execute("PRAGMA journal_mode=WAL").fetchone()
            except sqlite3.OperationalError as error:
                # SQLite's busy timeout does not cover another process that does the same now.
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or left == 0:
                    raise
                time.sleep(_WAL_PAUSE_S)
            else:
                return
    finally:
        connection.close()


def _engine(path: Path, *, begin: str, connections: int, pragmas: tuple[str, ...] = ()) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}",
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=0,
        hide_parameters=True,
        json_serializer=dumps,
        json_deserializer=loads,
    )

    def on_connect(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # this module begins transactions, not the driver
        for pragma in (
            f"busy_timeout={BUSY_TIMEOUT_MS}",
            "synchronous=FULL",
            "foreign_keys=ON",
            "recursive_triggers=ON",  # so that REPLACE cannot bypass the append-only triggers
            "temp_store=MEMORY",
            *pragmas,
        ):
            connection.execute(f"PRAGMA {pragma}")

    def on_begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    event.listen(engine, "connect", on_connect)
    event.listen(engine, "begin", on_begin)
    return engine
