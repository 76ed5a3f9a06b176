"""Each test has a database of its own, copied from a file that is migrated once."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from corral.store.databases.migrate import migrate
from corral.store.store import Store
from tests.unit.service.account_fixtures import ClockedServices


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("migrated") / "corral.db"
    engine = create_engine(f"sqlite:///{path}")
    migrate(engine)
    engine.dispose()
    return path


@pytest.fixture
def database(tmp_path: Path, migrated: Path) -> Path:
    """A migrated file without a row."""
    return Path(shutil.copy(migrated, tmp_path / "corral.db"))


@pytest.fixture
async def services(database: Path) -> AsyncIterator[ClockedServices]:
    """Account services over the test's database."""
    store = Store.open(f"sqlite:///{database}")
    yield ClockedServices(store)
    await store.close()
