"""One server for each database: a lock for the life of the process. Commands that change accounts need none.

SQLite: ``flock`` on a file beside the database. PostgreSQL: an advisory lock on a connection of its own, whose
application name says who holds it. The kernel or PostgreSQL ends the lock with the process, however that ends.
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
"""Of PostgreSQL's advisory locks."""
CHECK_S: Final = 2.0
"""How often the connection that holds the lock is checked."""
_CONNECT: Final[dict[str, Any]] = {"autocommit": True, "connect_timeout": 5}
HOLDER: Final = """
SELECT a.pid, a.application_name FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
AND ((l.classid::bigint << 32) | l.objid::bigint) = %s
AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


@contextmanager
def only_server(database_url: str, *, address: str) -> Generator[None]:
    """Hold the database of *database_url* for this server, which answers at *address*.

    Raises:
        BadSetting: another server holds it; names its process and address.
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
        yield  # ``Store.open`` refuses it, and says why


@contextmanager
def _locked_file(path: Path, address: str) -> Generator[None]:
    path = path.resolve()
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        yield  # where no file can be made, ``Store.open`` refuses the database, and says why
        return
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            held_by = os.pread(file, 4096, 0).decode(errors="replace")
            raise BadSetting(_refusal(_told(held_by), f"the database {path.with_suffix('')}", "data_dir")) from None
        os.ftruncate(file, 0)
        os.pwrite(file, json.dumps({"pid": os.getpid(), "address": address}).encode(), 0)
        yield
    finally:
        os.close(file)


def _told(record: str) -> str:
    try:
        holder = json.loads(record)
        return f"process {holder['pid']}, {holder['address']}"
    except (ValueError, KeyError, TypeError):
        return "process unknown"  # it has locked the file and not written to it yet


def _refusal(holder: str, database: str, setting: str) -> str:
    return f"Another Corral server ({holder}) uses {database}. Stop it, or set another {setting} for this one."


class _PostgresLock:
    """The advisory lock, its connection, and a thread that takes it again when the connection is lost."""

    def __init__(self, url: URL, address: str) -> None:
        self._url = url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._name = f"corral {os.getpid()} {address} {socket.gethostname()}"[:63]
        """PostgreSQL keeps 63 characters."""
        self._ended = threading.Event()

    @contextmanager
    def held(self) -> Generator[None]:
        connection = self._first()
        thread = threading.Thread(target=self._watch, args=(connection,), name="gateway-lock", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def _first(self) -> psycopg.Connection[Any]:
        try:
            connection = self._connect()
        except psycopg.Error as error:
            raise BadSetting(f"The database (database_url) cannot be reached: {type(error).__name__}.") from None
        if _try_lock(connection):
            return connection
        holder = _holder(connection)[1]
        connection.close()
        raise BadSetting(_refusal(holder, "this PostgreSQL database", "database_url"))

    def _connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self._url, application_name=self._name, **_CONNECT)

    def _watch(self, connection: psycopg.Connection[Any]) -> None:
        """Check the connection; when it is lost, lock again, or stop the server if another one was faster."""
        while not self._ended.wait(CHECK_S):
            try:
                if connection.closed:
                    connection = self._connect()
                    if not self._lock_again(connection):
                        return
                connection.execute("SELECT 1")
            except psycopg.Error as error:
                _log.warning("gateway_lock_lost", reason=type(error).__name__)
                connection.close()
        connection.close()

    def _lock_again(self, connection: psycopg.Connection[Any]) -> bool:
        """Lock; False, and the server is told to stop, if another server holds the database."""
        if _try_lock(connection):
            _log.info("gateway_lock_acquired_again")
            return True
        pid, name = _holder(connection)
        if name == self._name:  # this process' old session, which PostgreSQL does not know to be dead
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
