"""An empty store on each database, and the people who use it."""

import os
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest

from corral.store.store import Store
from tests.contract.store.books import Books

SERVER = os.environ.get("CORRAL_TEST_POSTGRES", "postgresql://postgres@127.0.0.1:5432")


@pytest.fixture(scope="session")
def postgres_template() -> Iterator[str]:
    """Name of a migrated database that others are copied from."""
    try:
        with psycopg.connect(f"{SERVER}/postgres", connect_timeout=3):
            pass
    except psycopg.OperationalError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI has no PostgreSQL: {error}")
        pytest.skip(f"no PostgreSQL at {SERVER.rpartition('@')[2]}")
    with new_database("template0") as name:
        Store.open(f"{SERVER}/{name}")._database.close()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        yield name


class new_database:  # noqa: N801 - reads as a function
    """A copy of *template*, dropped on leaving."""

    def __init__(self, template: str) -> None:
        self.name = f"corral_test_{uuid.uuid4().hex}"
        self._template = template

    def __enter__(self) -> str:
        administer(f'CREATE DATABASE "{self.name}" TEMPLATE "{self._template}"')
        return self.name

    def __exit__(self, *_: object) -> None:
        administer(f'DROP DATABASE "{self.name}" WITH (FORCE)')


def administer(statement: str) -> None:
    with psycopg.connect(f"{SERVER}/postgres", autocommit=True) as connection:
        connection.execute(statement.encode())


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/corral.db"


@pytest.fixture
def postgres_url(postgres_template: str) -> Iterator[str]:
    with new_database(postgres_template) as name:
        yield f"{SERVER}/{name}"


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
