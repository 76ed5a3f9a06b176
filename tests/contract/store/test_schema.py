"""Migrations produce the declared tables; schema versions and file permissions."""

import asyncio
import re
import stat
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection, Engine, create_engine, text

from corral.core.errors import BadSetting
from corral.store.books import accounts
from corral.store.databases.migrate import LOCK, migrate
from corral.store.schema import metadata
from corral.store.store import Store
from tests.contract.store import children

pytestmark = pytest.mark.anyio

_OF_POSTGRES = (
    "SELECT table_name, column_name, data_type, is_nullable, column_default, ordinal_position "
    "FROM information_schema.columns WHERE table_schema = 'public'",
    "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid <> 0 "
    "AND connamespace = 'public'::regnamespace",
    "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
    "SELECT tgrelid::regclass::text, tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
    "SELECT proname, proname, trim(both from regexp_replace(pg_get_functiondef(oid), '\\s+', ' ', 'g')) FROM pg_proc "
    "WHERE pronamespace = 'public'::regnamespace",
)
_OF_SQLITE = (
    "SELECT tbl_name, name, sql FROM sqlite_master WHERE sql IS NOT NULL AND type <> 'table'",
    'SELECT t.name, c.name, c.type, c."notnull", c.dflt_value, c.pk, c.cid FROM sqlite_master t, '
    "pragma_table_info(t.name) c WHERE t.type = 'table'",
    'SELECT t.name, k."from", k."table", k."to" FROM sqlite_master t, pragma_foreign_key_list(t.name) k',
    # What was added by ALTER TABLE stands behind the constraints in a table's own text, so those are cut out of it.
    "SELECT name, 'checks', sql FROM sqlite_master WHERE type = 'table'",
)
_CHECK = re.compile(r"CONSTRAINT \w+ CHECK \(.*\)")


def shape(connection: Connection) -> set[tuple[object, ...]]:
    """Everything the database says of itself, but for Alembic's own table."""
    queries = _OF_SQLITE if connection.dialect.name == "sqlite" else _OF_POSTGRES
    rows = (tuple(row) for query in queries for row in connection.execute(text(query)))
    return {
        (row[0], *(_checks(row[2]) if row[1] == "checks" else map(_spaced, row[1:])))
        for row in rows
        if row[0] != "alembic_version"
    }


def _checks(sql: str) -> tuple[str, ...]:
    return tuple(sorted(_CHECK.findall(sql)))


def _spaced(part: object) -> object:
    return " ".join(part.split()) if isinstance(part, str) else part


def compare(engine: Engine) -> None:
    """Make it once by migrations and once from the tables; all is undone but the comparison."""
    migrate(engine)
    with engine.begin() as connection:
        migrated = shape(connection)
        if connection.dialect.name == "postgresql":
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
        else:
            metadata.drop_all(connection)
        assert not {row for row in shape(connection) if row[0] in metadata.tables}
        metadata.create_all(connection)
        made = shape(connection)
    engine.dispose()
    assert made == migrated
    assert len(made) > 2 * len(metadata.tables)


def test_migrations_produce_the_declared_tables_on_sqlite(tmp_path: Path) -> None:
    compare(create_engine(f"sqlite:///{tmp_path}/corral.db"))


def test_migrations_produce_the_declared_tables_on_postgresql(fresh_postgres_url: str) -> None:
    compare(create_engine(fresh_postgres_url.replace("postgresql:", "postgresql+psycopg:")))


async def test_database_of_a_newer_version_is_rejected_unchanged(store: Store, url: str) -> None:
    version = text("SELECT version_num FROM alembic_version")
    ours = await store.read(lambda c: c.execute(version).scalar())
    await store.write(lambda c: c.execute(text("UPDATE alembic_version SET version_num = '9999_future'")))
    with pytest.raises(BadSetting, match=r"revision '9999_future'.*written by a newer one"):
        await asyncio.to_thread(Store.open, url)
    assert await store.read(lambda c: c.execute(version).scalar()) == "9999_future"
    await store.write(lambda c: c.execute(text("UPDATE alembic_version SET version_num = :ours"), {"ours": ours}))


async def all_open(url: str) -> None:
    servers = [children.start("open_only", url) for _ in "12"]
    for server in servers:
        assert server.stdout is not None
        assert await asyncio.to_thread(server.stdout.readline) == "ready\n"
    for server in servers:
        assert server.stdin is not None
        server.stdin.write("go\n")
        server.stdin.flush()
    for server in servers:
        await asyncio.to_thread(server.communicate, timeout=60)
    assert [server.returncode for server in servers] == [0, 0]
    store = Store.open(url)
    assert len(await store.read(accounts.list_accounts)) == 1
    await store.close()


async def test_concurrent_starts_migrate_once_on_sqlite(tmp_path: Path) -> None:
    await all_open(f"sqlite:///{tmp_path}/corral.db")


async def test_concurrent_starts_migrate_once_on_postgresql(fresh_postgres_url: str) -> None:
    await all_open(fresh_postgres_url)


async def test_a_server_waits_while_another_migrates_on_postgresql(fresh_postgres_url: str) -> None:
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    with psycopg.connect(fresh_postgres_url, autocommit=True) as other:
        other.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
        opening = asyncio.ensure_future(asyncio.to_thread(Store.open, fresh_postgres_url))
        while not opening.done() and other.execute(waiting).fetchone() == (0,):
            await asyncio.sleep(0.005)
        assert not opening.done()
        assert other.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)
        other.execute("SELECT pg_advisory_unlock(%s)", (LOCK,))
        await (await opening).close()


async def test_only_the_owner_may_read_the_file(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path}/corral.db")
    await store.write(lambda c: accounts.ensure_local_account(c, now_ms=0))
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("corral.db*")}
    assert modes == dict.fromkeys(("corral.db", "corral.db-wal", "corral.db-shm"), 0o600)
    await store.close()
