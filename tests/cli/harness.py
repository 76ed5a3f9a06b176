"""Run the ``corral`` command on a temporary data directory with a database."""

import asyncio
import json
import re
import shutil
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from corral.cli.main import app
from corral.core.accounts import Account, ApiKey
from corral.core.prediction import Prediction
from corral.store.store import Store
from tests.cli.processes import Result, run_in_pipes
from tests.contract.store.books import Books


class CliHarness:
    """Runs operator commands, and changes the database between them."""

    def __init__(self, data_dir: Path) -> None:
        self._url = f"sqlite:///{data_dir}/corral.db"
        self.data_dir = data_dir

    def run(self, *arguments: str, stdin: bytes = b"") -> Result:
        return run_in_pipes(app, arguments, stdin)

    def output(self, *arguments: str) -> str:
        """Stdout of a command that must succeed."""
        done = self.run(*arguments)
        assert done.status == 0, done.stderr.decode()
        return done.stdout.decode()

    def json(self, *arguments: str) -> Any:
        return json.loads(self.output(*arguments, "--json"))

    def error(self, *arguments: str, status: int = 1) -> str:
        """Stderr of a command that must fail, on one line."""
        done = self.run(*arguments)
        assert (done.status, done.stdout) == (status, b""), done.stdout
        return re.sub(r"[\s\u2502]+", " ", done.stderr.decode())

    def with_store(self, work: Callable[[Store], Coroutine[Any, Any, Any]]) -> Any:
        """Run *work* on a separate database connection, as a server would."""

        async def run() -> Any:
            store = Store.open(self._url)
            try:
                return await work(store)
            finally:
                await store.close()

        return asyncio.run(run())

    def settle_runs(self, account: Account, key: ApiKey, *runs: dict[str, Any]) -> list[Prediction]:
        """Claim and settle runs with 100 prompt tokens; each may set ``model``, ``door``, ``tokens`` and ``at_ms``."""

        async def work(store: Store) -> list[Prediction]:
            books = Books(store, account, key)
            settled: list[Prediction] = []
            for run in runs:
                books.now_ms = run.get("at_ms", books.now_ms)
                where = {name: run[name] for name in ("model", "door") if name in run}
                settled.append(await books.settle(await books.claim(**where), tokens=run.get("tokens", 10)))
            return settled

        return self.with_store(work)

    def create_account(self, **options: Any) -> tuple[Account, ApiKey]:
        """Create the account Ann with one dollar, and an API key."""

        async def work(store: Store) -> tuple[Account, ApiKey]:
            books = await Books.begin(store, **options)
            return books.account, books.key

        return self.with_store(work)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty migrated database: copying it is faster than migrating each time."""
    path = tmp_path_factory.mktemp("migrated") / "corral.db"
    asyncio.run(Store.open(f"sqlite:///{path}").close())
    return path


@pytest.fixture
def cli(tmp_path: Path, migrated: Path, monkeypatch: pytest.MonkeyPatch) -> CliHarness:
    """A harness on a database without accounts."""
    shutil.copy(migrated, tmp_path / "corral.db")
    monkeypatch.setenv("CORRAL_DATA_DIR", str(tmp_path))
    return CliHarness(tmp_path)
