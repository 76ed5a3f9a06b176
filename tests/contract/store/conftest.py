"""An empty store on each database, and its accounts."""

import os
import shutil
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import create_engine

from corral.store.databases.migrate import migrate
from corral.store.schema import metadata
from corral.store.store import Store
from tests.contract.store.books import Books

SERVER = os.environ.get("CORRAL_TEST_POSTGRES", "postgresql://postgres@127.0.0.1:5432")


@pytest.fixture(scope="session")
def postgres_server() -> str:
    """URL of a PostgreSQL server for test databases."""
    try:
        with psycopg.connect(f"{SERVER}/postgres", connect_timeout=3):
            return SERVER
    except psycopg.OperationalError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI has no PostgreSQL: {error}")
        pytest.skip(f"no PostgreSQL at {SERVER.rpartition('@')[2]}")


@contextmanager
def new_postgres(server: str) -> Iterator[str]:
    """URL of an empty database, dropped on leaving."""
    name = f"corral_test_{uuid.uuid4().hex}"
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE template0'.encode())
        try:
            yield f"{server}/{name}"
        finally:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


@pytest.fixture
def fresh_postgres_url(postgres_server: str) -> Iterator[str]:
    """An empty database."""
    with new_postgres(postgres_server) as url:
        yield url


@pytest.fixture(scope="session")
def migrated_postgres_url(postgres_server: str) -> Iterator[str]:
    with new_postgres(postgres_server) as url:
        engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
        migrate(engine)
        engine.dispose()
        yield url


@pytest.fixture
def postgres_url(migrated_postgres_url: str) -> str:
    """A migrated, empty database; shared, because migrating one per test takes a second."""
    with psycopg.connect(migrated_postgres_url) as connection:
        connection.execute("SET session_replication_role = replica")  # past triggers and foreign keys
        for table in metadata.tables:
            connection.execute(f'DELETE FROM "{table}"'.encode())
    return migrated_postgres_url


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("migrated") / "corral.db"
    engine = create_engine(f"sqlite:///{path}")
    migrate(engine)
    engine.dispose()
    return path


@pytest.fixture
def sqlite_url(tmp_path: Path, migrated_sqlite: Path) -> str:
    """A migrated, empty SQLite file."""
    shutil.copy(migrated_sqlite, tmp_path / "corral.db")
    return f"sqlite:///{tmp_path}/corral.db"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    """Of a database of its own for each test."""
    return request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url")


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    opened = Store.open(url)
    yield opened
    await opened.close()


@pytest.fixture
async def books(store: Store) -> Books:
    """A store in which one prepaid account has a dollar and a key."""
    return await Books.begin(store)
