"""Lock that lets only one server use a database. Admin commands do not take it.

SQLite: ``flock`` on a file beside the database. PostgreSQL: an advisory lock on its own connection, whose application
name identifies the holder. Both are released when the process ends, even if it is killed.
"""

import fcntl
import json
import os
import signal
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg
import structlog
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from corral.core.errors import BadSetting
from corral.store.databases.migrate import LOCK

_log = structlog.get_logger(__name__)
GATEWAY_LOCK: Final = LOCK + 1
"""Key of the advisory lock in PostgreSQL."""
CHECK_S: Final = 2.0
"""Interval between checks of the connection that holds the lock."""
_CONNECT: Final[dict[str, Any]] = {"autocommit": True, "connect_timeout": 5}
HOLDER: Final = """
SELECT a.pid, a.application_name FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
AND ((l.classid::bigint << 32) | l.objid::bigint) = %s
AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


@contextmanager
def hold_gateway_lock(database_url: str, *, address: str) -> Generator[None]:
    """Hold the lock of a database for this server, which listens at *address*, while the block is active.

    Raises:
        BadSetting: another server holds the lock; the message contains its process id and address.
    """
    try:
        url = make_url(database_url)
    except ArgumentError:
        url = None
    if url is not None and url.drivername.startswith("postgres"):
        with _PostgresLock(url, address).held():
            yield
    elif url is not None and url.drivername == "sqlite" and url.database not in {None, "", ":memory:"}:
        with _locked_file(Path(f"{url.database}.lock"), address):
            yield
    else:
        yield  # ``Store.open`` refuses the URL with a message


@contextmanager
def _locked_file(path: Path, address: str) -> Generator[None]:
    path = path.resolve()
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        yield  # ``Store.open`` refuses the database with a message
        return
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = _describe_holder(os.pread(file, 4096, 0).decode(errors="replace"))
            raise BadSetting(_refusal(holder, f"the database {path.with_suffix('')}", "data_dir")) from None
        os.ftruncate(file, 0)
        os.pwrite(file, json.dumps({"pid": os.getpid(), "address": address}).encode(), 0)
        yield
    finally:
        os.close(file)


def _describe_holder(record: str) -> str:
    try:
        holder = json.loads(record)
        return f"process {holder['pid']}, {holder['address']}"
    except (ValueError, KeyError, TypeError):
        return "process unknown"  # the other process has locked the file but not yet written to it


def _refusal(holder: str, database: str, setting: str) -> str:
    return f"Another Corral server ({holder}) uses {database}. Stop it, or set another {setting} for this one."


class _PostgresLock:
    """The advisory lock with its connection, and a thread that acquires it again when the connection is lost."""

    def __init__(self, url: URL, address: str) -> None:
        self._url = url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._name = f"corral {os.getpid()} {address} {socket.gethostname()}"[:63]
        """PostgreSQL truncates application names to 63 characters."""
        self._stopped = threading.Event()

    @contextmanager
    def held(self) -> Generator[None]:
        connection = self._acquire()
        thread = threading.Thread(target=self._watch, args=(connection,), name="gateway-lock", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            thread.join()

    def _acquire(self) -> psycopg.Connection[Any]:
        try:
            connection = self._connect()
        except psycopg.Error as error:
            raise BadSetting(f"database_url: cannot connect to the database: {type(error).__name__}.") from None
        if _try_lock(connection):
            return connection
        holder = _holder(connection)[1]
        connection.close()
        raise BadSetting(_refusal(holder, "this PostgreSQL database", "database_url"))

    def _connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self._url, application_name=self._name, **_CONNECT)

    def _watch(self, connection: psycopg.Connection[Any]) -> None:
        """Check the connection; when it is lost, acquire the lock again, or stop the server if another one holds it."""
        while not self._stopped.wait(CHECK_S):
            try:
                if connection.closed:
                    connection = self._connect()
                    if not self._reacquire(connection):
                        return
                connection.execute("SELECT 1")
            except psycopg.Error as error:
                _log.warning("gateway_lock_lost", reason=type(error).__name__)
                connection.close()
        connection.close()

    def _reacquire(self, connection: psycopg.Connection[Any]) -> bool:
        """Acquire the lock on a new connection. If another server holds it, stop this server and return False."""
        if _try_lock(connection):
            _log.info("gateway_lock_reacquired")
            return True
        pid, name = _holder(connection)
        if name == self._name:  # the old session of this process, which PostgreSQL still considers alive
            connection.execute("SELECT pg_terminate_backend(%s)", (pid,))
            connection.close()
            return True
        _log.error("gateway_replaced", holder=name)
        connection.close()
        os.kill(os.getpid(), signal.SIGTERM)
        return False


def _try_lock(connection: psycopg.Connection[Any]) -> bool:
    row = connection.execute("SELECT pg_try_advisory_lock(%s)", (GATEWAY_LOCK,)).fetchone()
    return row is not None and bool(row[0])


def _holder(connection: psycopg.Connection[Any]) -> tuple[int, str]:
    row = connection.execute(HOLDER.encode(), (GATEWAY_LOCK,)).fetchone()
    return (0, "unknown") if row is None else (row[0], row[1])
