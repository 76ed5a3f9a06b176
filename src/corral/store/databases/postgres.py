"""PostgreSQL backend: bounded thread pools, one transaction per function, retries after deadlocks.

Transactions take row locks in one order (account, prediction, counters), so deadlocks are not expected; if one occurs,
the function is run again. PostgreSQL groups concurrent commits by itself.
"""

import random
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

from psycopg import Connection as PsycopgConnection
from sqlalchemy import URL, Connection, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from corral.store.databases.failures import is_retryable, translate
from corral.store.databases.json_text import dumps, loads

WRITERS: Final = 8
READERS: Final = 4
ATTEMPTS: Final = 5
_PAUSE_S: Final = 0.02
_TIMEOUTS: Final = {
    "lock_timeout": "10s",
    "statement_timeout": "30s",
    "idle_in_transaction_session_timeout": "60s",
}
_CONNECT_TIMEOUT_S: Final = 10


class PostgresDatabase:
    """A PostgreSQL database, which other processes may use at the same time."""

    def __init__(self, url: URL) -> None:
        """Create the pools. The first transaction connects."""
        self.commits = 0
        """Committed write transactions; approximate, because threads count without a lock."""
        self.engine = create_engine(
            url,
            pool_size=WRITERS + READERS,
            max_overflow=0,
            pool_pre_ping=True,
            isolation_level="READ COMMITTED",
            hide_parameters=True,
            json_serializer=dumps,
            json_deserializer=loads,
            connect_args={"connect_timeout": _CONNECT_TIMEOUT_S, **_application_name(url)},
        )
        event.listen(self.engine, "connect", _set_timeouts)
        self._snapshots = self.engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self._writers = ThreadPoolExecutor(WRITERS, thread_name_prefix="store-write")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="store-read")

    def start(self) -> None:
        """Do nothing: threads start with their first transaction."""

    def submit_write(self, work: Callable[[Connection], Any]) -> Future[Any]:
        """Run *work* in its own transaction."""
        return self._writers.submit(self._write, work)

    def submit_read(self, work: Callable[[Connection], Any]) -> Future[Any]:
        """Run *work* in a read-only transaction with one snapshot."""
        return self._readers.submit(self._read, work)

    def close(self) -> None:
        """Finish queued transactions, then close the connections. Blocks."""
        self._writers.shutdown()
        self._readers.shutdown()
        self.engine.dispose()

    def _write(self, work: Callable[[Connection], Any]) -> Any:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with self.engine.begin() as connection:
                    value = work(connection)
            except (DBAPIError, PoolTimeout, OverflowError) as error:
                if attempt == ATTEMPTS or not is_retryable(error):
                    raise translate(error) from None
                time.sleep(random.uniform(0, _PAUSE_S * attempt))  # noqa: S311 - jitter, not for security
            else:
                self.commits += 1
                return value
        raise AssertionError("the last attempt returns or raises")

    def _read(self, work: Callable[[Connection], Any]) -> Any:
        try:
            with self._snapshots.begin() as connection:
                return work(connection)
        except (DBAPIError, PoolTimeout, OverflowError) as error:
            raise translate(error) from None


def _application_name(url: URL) -> dict[str, str]:
    return {} if "application_name" in url.query else {"application_name": "corral"}


def _set_timeouts(connection: PsycopgConnection[Any], _record: object) -> None:
    """Set timeouts for locks, statements and idle transactions, so that nothing waits forever."""
    autocommit = connection.autocommit
    connection.autocommit = True
    for name, value in _TIMEOUTS.items():
        connection.execute(f"SET {name} = '{value}'".encode())
    connection.autocommit = autocommit
