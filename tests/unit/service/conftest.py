"""A database of its own for each test, from a file that is migrated once."""

import shutil
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from corral.store.databases.migrate import migrate


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
