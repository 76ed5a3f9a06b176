"""Transactions: grouping, atomicity, retries and timeouts."""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, Engine, event, insert, text

import corral.store.databases.sqlite
import corral.store.store
from corral.core.errors import BadSetting, CorralError, InvalidRequest, Overloaded, StorageUnavailable
from corral.store.books import accounts
from corral.store.books.reconcile import reconcile
from corral.store.databases.failures import StoreClosed, StoreFailed
from corral.store.runs.claims import claim
from corral.store.runs.settlements import unfinished
from corral.store.schema import idempotency_keys
from corral.store.store import Store
from tests.contract.store import children
from tests.contract.store.books import DOLLAR, HOLD, NOON, Books, ended, settle_counted, wanted

pytestmark = pytest.mark.anyio


@pytest.fixture
def commits() -> Iterator[list[Connection]]:
    """Grows by one with each COMMIT of any engine."""
    seen: list[Connection] = []

    def see(connection: Connection) -> None:
        seen.append(connection)

    event.listen(Engine, "commit", see)
    yield seen
    event.remove(Engine, "commit", see)


class BlockedWriter:
    """Blocks the writer of an SQLite store, so that transactions queued meanwhile become one group."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._begun = threading.Event()
        self._go = threading.Event()

    async def __aenter__(self) -> None:
        self._work = asyncio.ensure_future(self._store.write(self._hold))
        await asyncio.to_thread(self._begun.wait)

    async def __aexit__(self, *_: object) -> None:
        self._go.set()
        await self._work

    def _hold(self, _: Connection) -> None:
        self._begun.set()
        self._go.wait(30)


async def queued(store: Store, *works: Callable[[Connection], Any]) -> list[asyncio.Future[Any]]:
    tasks: list[asyncio.Future[Any]] = [asyncio.ensure_future(store.write(work)) for work in works]
    await asyncio.sleep(0)
    return tasks


def name_account(name: str) -> Callable[[Connection], Any]:
    return lambda c: accounts.create_account(c, name=name, now_ms=NOON)


def fail(connection: Connection) -> None:
    accounts.create_account(connection, name="undone", now_ms=NOON)
    raise InvalidRequest("no")


async def names(store: Store) -> list[str]:
    return sorted(account.name for account in await store.read(accounts.list_accounts))


async def test_failed_transaction_rolls_back_only_itself(store: Store) -> None:
    outcomes = await asyncio.gather(
        store.write(name_account("a")), store.write(fail), store.write(name_account("b")), return_exceptions=True
    )
    assert isinstance(outcomes[1], InvalidRequest)
    assert await names(store) == ["a", "b"]


async def test_queued_transactions_share_one_commit_on_sqlite(sqlite_url: str, commits: list[Connection]) -> None:
    store = Store.open(sqlite_url)
    async with BlockedWriter(store):
        before = len(commits)
        tasks = await queued(store, *(name_account(f"{n:03}") for n in range(100)), fail)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert len(commits) - before == 2  # the one that blocked, and the group
    assert [type(outcome) for outcome in outcomes[100:]] == [InvalidRequest]
    assert await names(store) == [f"{n:03}" for n in range(100)]
    assert store.commits == 2
    await store.close()


async def test_failed_commit_fails_every_transaction_of_its_group_on_sqlite(sqlite_url: str) -> None:
    def dangle(connection: Connection) -> None:
        connection.execute(text("PRAGMA defer_foreign_keys=ON"))
        row = {"account_id": "x", "key": "x", "body_digest": b"", "prediction_id": "x", "created_at_ms": 0}
        connection.execute(insert(idempotency_keys), row)

    store = Store.open(sqlite_url)
    async with BlockedWriter(store):
        tasks = await queued(store, name_account("a"), dangle, fail, name_account("b"))
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [StoreFailed, StoreFailed, InvalidRequest, StoreFailed]
    assert await names(store) == []
    await store.write(name_account("after"))
    assert await names(store) == ["after"]
    await store.close()


async def test_write_completes_after_its_caller_is_cancelled(url: str) -> None:
    store = Store.open(url)
    begun, go = threading.Event(), threading.Event()

    def slow(connection: Connection) -> None:
        begun.set()
        go.wait(30)
        accounts.create_account(connection, name="slow", now_ms=NOON)

    waiting = asyncio.ensure_future(store.write(slow))
    await asyncio.to_thread(begun.wait)
    queued_behind = (await queued(store, name_account("behind")))[0]
    for task in (waiting, queued_behind):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    go.set()
    await store.close()
    again = Store.open(url)
    assert await names(again) == ["behind", "slow"]
    await again.close()


async def test_close_finishes_queued_transactions_and_rejects_new_ones(url: str) -> None:
    store = Store.open(url)
    tasks = await queued(store, *(name_account(f"{n:02}") for n in range(30)))
    await store.close()
    await store.close()
    with pytest.raises(StoreClosed):
        await store.write(name_account("late"))
    with pytest.raises(StoreClosed):
        await store.read(accounts.list_accounts)
    await asyncio.gather(*tasks)
    again = Store.open(url)
    assert len(await names(again)) == 30
    await again.close()


async def test_a_read_cannot_write(store: Store) -> None:
    with pytest.raises(StorageUnavailable, match=r"read-?only"):
        await store.read(name_account("a"))
    assert await names(store) == []


async def test_read_sees_one_snapshot(store: Store) -> None:
    begun, go = threading.Event(), threading.Event()

    def look_twice(connection: Connection) -> tuple[int, int]:
        first = len(accounts.list_accounts(connection))
        begun.set()
        go.wait(30)
        return first, len(accounts.list_accounts(connection))

    looking = asyncio.ensure_future(store.read(look_twice))
    await asyncio.to_thread(begun.wait)
    await store.write(name_account("a"))
    go.set()
    assert await looking == (0, 0)
    assert await names(store) == ["a"]


async def test_full_transaction_queue_rejects_writes(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corral.store.store, "MAX_WAITING", 3)
    store = Store.open(url)
    async with BlockedWriter(store):
        tasks = await queued(store, *(name_account(name) for name in "abc"))
        with pytest.raises(Overloaded):
            await tasks[2]
    await asyncio.gather(*tasks[:2])
    await store.write(name_account("d"))
    assert await names(store) == ["a", "b", "d"]
    await store.close()


async def test_database_errors_do_not_contain_the_row(books: Books) -> None:
    def too_many(connection: Connection) -> None:
        claimed = wanted(books.account, books.key, input={"prompt": "my secret"})
        claim(connection, claimed, now_ms=NOON)
        connection.execute(text("UPDATE predictions SET hold_nusd = -1"))

    with pytest.raises(StoreFailed, match="ck_predictions_hold") as refused:
        await books.store.write(too_many)
    assert "secret" not in repr(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


async def test_a_killed_process_leaves_whole_transactions_only(url: str) -> None:
    child = children.start("die_in_a_group", url)
    await asyncio.to_thread(child.communicate, timeout=60)
    assert child.returncode == -9
    store = Store.open(url)
    left = await store.read(unfinished)
    assert len(left) == 5
    assert await store.read(reconcile) == []
    for held in left:
        await store.write(lambda c, held=held: settle_counted(c, ended(held.prediction), now_ms=NOON))
    (account,) = await store.read(accounts.list_accounts)
    assert (account.available_nusd, account.held_nusd) == (DOLLAR - 10 * 92_500, 0)
    assert await store.read(reconcile) == []
    await store.close()


async def test_two_processes_write_one_database_and_neither_is_locked_out(books: Books, url: str) -> None:
    child = children.start("run_pairs", url, books.account.id, "50", "child")
    assert child.stdout is not None
    assert await asyncio.to_thread(child.stdout.readline) == "open\n"

    async def pair() -> None:
        await books.settle(await books.claim())

    for _ in range(5):
        await asyncio.gather(*(pair() for _ in range(10)))
    await asyncio.to_thread(child.communicate, timeout=60)
    assert child.returncode == 0
    assert await books.balance() == (DOLLAR - 100 * 92_500, 0)
    assert await books.differences() == []


async def test_locked_database_is_reported_and_writes_succeed_later(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corral.store.databases.sqlite, "BUSY_TIMEOUT_MS", 50)
    store = Store.open(sqlite_url)
    other = sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Overloaded, match="too busy"):
        await store.write(name_account("a"))
    assert await names(store) == []
    other.execute("ROLLBACK")
    other.close()
    await store.write(name_account("b"))
    assert await names(store) == ["b"]
    await store.close()


async def test_deadlock_is_retried_on_postgresql(postgres_url: str) -> None:
    store = Store.open(postgres_url)
    ids = [(await store.write(name_account(name))).id for name in "ab"]
    both = threading.Barrier(2)
    tries: list[str] = []

    def crosswise(first: str, second: str) -> Callable[[Connection], None]:
        def work(connection: Connection) -> None:
            tries.append(first)
            accounts.lock_account(connection, first)
            if tries.count(first) == 1:
                both.wait(10)
            accounts.lock_account(connection, second)
            accounts.credit(connection, first, 5, now_ms=NOON)

        return work

    await asyncio.gather(store.write(crosswise(*ids)), store.write(crosswise(*reversed(ids))))
    assert len(tries) > 2  # one of them was the victim at least once
    assert [a.available_nusd for a in await store.read(accounts.list_accounts)] == [5, 5]
    await store.close()


async def test_claims_and_settlements_of_two_accounts_never_deadlock(books: Books) -> None:
    other = await Books.begin(books.store)

    async def pair(mine: Books) -> None:
        await mine.settle(await mine.claim())

    await asyncio.gather(*(pair(mine) for mine in (books, other) * 40))
    assert await books.balance() == await other.balance() == (DOLLAR - 40 * 92_500, 0)
    assert await books.differences() == []


async def test_lost_connections_are_reopened_on_postgresql(postgres_url: str) -> None:
    store = Store.open(postgres_url)
    await asyncio.gather(*(store.write(name_account(name)) for name in "abcdefgh"))
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    await asyncio.gather(*(store.write(name_account(name)) for name in "ijklmnop"))
    assert "".join(await names(store)) == "abcdefghijklmnop"
    await store.close()


async def test_transactions_have_timeouts_on_postgresql(postgres_url: str) -> None:
    store = Store.open(postgres_url)
    shown = "SELECT name || '=' || setting FROM pg_settings WHERE name IN ('lock_timeout', 'statement_timeout')"
    isolation = "SELECT current_setting('transaction_isolation')"

    def look(connection: Connection) -> list[str]:
        return [*connection.execute(text(shown)).scalars(), *connection.execute(text(isolation)).scalars()]

    assert await store.write(look) == ["lock_timeout=10000", "statement_timeout=30000", "read committed"]
    assert (await store.read(look))[-1] == "repeatable read"
    await store.close()


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("mysql://root:hunter2@localhost/x", "database_url: 'mysql' is not supported"),
        ("sqlite://", "must name a file"),
        ("sqlite:///:memory:", "must name a file"),
        ("sqlite:////nowhere/at/all/corral.db", "cannot be used"),
        ("hunter2", "database_url: it is not a URL. Give one such as postgresql://user"),
        ("postgresql://postgres:hunter2@127.0.0.1:x/x", "database_url: it is not a URL"),
        (
            "postgresql://postgres:hunter2@127.0.0.1:1/x",
            "cannot connect to PostgreSQL at 127.0.0.1:1: Connection refused.",
        ),
        ("postgresql://postgres:hunter2@[::1]:1/x", r"cannot connect to PostgreSQL at \[::1\]:1: "),
        ("postgresql://postgres:hunter2@nowhere.invalid/x", "at nowhere.invalid: failed to resolve host"),
        ("postgresql://postgres:hunter2@127.0.0.1/x?bogus=1", 'at 127.0.0.1: invalid connection option "bogus"'),
    ],
)
async def test_a_database_that_cannot_be_opened_is_named_without_its_password(bad: str, said: str) -> None:
    with pytest.raises(BadSetting, match=said) as refused:
        await asyncio.to_thread(Store.open, bad)
    assert "hunter2" not in str(refused.value)


async def test_file_that_is_not_a_database_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"not a database, but long enough to be read as one" * 20)
    with pytest.raises(CorralError, match="cannot be"):
        await asyncio.to_thread(Store.open, f"sqlite:///{tmp_path}/x.db")


async def test_claim_is_durable_before_it_returns(books: Books, url: str) -> None:
    await books.claim()
    second = Store.open(url)
    assert await Books(second, books.account, books.key).balance() == (DOLLAR - HOLD, HOLD)
    await second.close()


async def test_a_database_that_does_not_exist_is_named_with_its_server(postgres_server: str) -> None:
    with pytest.raises(BadSetting, match=r'PostgreSQL at .*: database "no-such-database" does not exist'):
        await asyncio.to_thread(Store.open, f"{postgres_server}/no-such-database")
