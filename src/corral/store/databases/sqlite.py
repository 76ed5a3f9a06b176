"""SQLite: one thread writes, a few read, and what is queued together is committed together.

A commit costs a sync of the disk, whatever is in it. So the writer takes all that is queued, gives each work a
savepoint of its own, and commits once (group commit); only then does anybody hear of success. Knows nothing of tables.
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
from corral.store.databases.failures import told
from corral.store.databases.json_text import dumps, loads

BUSY_TIMEOUT_MS: Final = 30_000
"""How long this process waits while another one writes."""
READERS: Final = 4
MAX_GROUP: Final = 512
"""Works in one commit: bounds how long the first of them waits."""
_WAL_TRIES: Final = 100
_WAL_PAUSE_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class _Job:
    work: Callable[[Connection], Any]
    reply: Future[Any]


@dataclass(frozen=True, slots=True)
class _Outcome:
    value: Any = None
    error: BaseException | None = None

    def deliver(self, reply: Future[Any]) -> None:
        if self.error is None:
            reply.set_result(self.value)
        else:
            reply.set_exception(told(self.error))


class SqliteDatabase:
    """One file, which other processes may write as well."""

    def __init__(self, path: Path) -> None:
        """Make the file if there is none, for its owner only.

        Raises:
            BadSetting: it cannot be made or is no database.
        """
        self.commits = 0
        """Transactions committed by the writer."""
        _prepare(path)
        self.engine = _engine(path, begin="BEGIN IMMEDIATE", connections=1)
        self._readers = _engine(path, begin="BEGIN", connections=READERS, pragmas=("query_only=ON",))
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="store-read")
        # A daemon, so that a program that dies without closing its store does die.
        self._writer = threading.Thread(target=self._serve, name="store-write", daemon=True)

    def start(self) -> None:
        """Begin to take work; the schema is in place."""
        self._writer.start()

    def submit_write(self, work: Callable[[Connection], Any]) -> Future[Any]:
        """Queue *work* for the next group."""
        job = _Job(work, Future())
        self._queue.put(job)
        return job.reply

    def submit_read(self, work: Callable[[Connection], Any]) -> Future[Any]:
        """Run *work* on one snapshot, in which it cannot write."""
        return self._pool.submit(self._read, work)

    def close(self) -> None:
        """Finish what is queued, then let go of the file. Blocks."""
        if self._writer.is_alive():
            self._queue.put(None)
            self._writer.join()
        self._pool.shutdown()
        self._readers.dispose()
        self.engine.dispose()

    def _serve(self) -> None:
        closing = False
        while not closing:
            group = self._take()
            closing = None in group
            self._commit([job for job in group if job is not None])

    def _take(self) -> list[_Job | None]:
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
        except BaseException as error:  # noqa: BLE001 - whoever awaits a work of this group is told
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
            raise told(error) from None


def _attempt(connection: Connection, work: Callable[[Connection], Any]) -> _Outcome:
    """Run one work in its own savepoint. Raises only when that cannot be undone, which undoes the whole group."""
    connection.exec_driver_sql("SAVEPOINT work")
    try:
        value = work(connection)
    except BaseException as error:  # noqa: BLE001 - whoever awaits this work is told
        try:
            connection.exec_driver_sql("ROLLBACK TO work")
        except DBAPIError:
            # A full disk or an I/O error undoes the whole transaction, savepoint and all: that is what happened.
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
    """Readers do not block the writer, nor it them. The mode stays with the file."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT_MS / 1000)
    try:
        for left in reversed(range(_WAL_TRIES)):
            try:
                connection.execute("PRAGMA journal_mode=WAL").fetchone()
            except sqlite3.OperationalError as error:
                # SQLite does not wait for another process that does the same at this moment.
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
        connection.isolation_level = None  # transactions begin where this module says, not where the driver guesses
        for pragma in (
            f"busy_timeout={BUSY_TIMEOUT_MS}",
            "synchronous=FULL",
            "foreign_keys=ON",
            "recursive_triggers=ON",  # so that REPLACE cannot pass the append-only triggers by
            "temp_store=MEMORY",
            *pragmas,
        ):
            connection.execute(f"PRAGMA {pragma}")

    def on_begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    event.listen(engine, "connect", on_connect)
    event.listen(engine, "begin", on_begin)
    return engine
