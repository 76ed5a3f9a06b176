"""A data directory with books in it, and the whole ``corral`` command run on them."""

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


class Ledgers:
    """The commands of an operator, and what happened meanwhile in the store."""

    def __init__(self, data_dir: Path) -> None:
        self._url = f"sqlite:///{data_dir}/corral.db"
        self.data_dir = data_dir

    def run(self, *arguments: str, stdin: bytes = b"") -> Result:
        return run_in_pipes(app, arguments, stdin)

    def said(self, *arguments: str) -> str:
        """What a command that must succeed says."""
        done = self.run(*arguments)
        assert done.status == 0, done.stderr.decode()
        return done.stdout.decode()

    def json(self, *arguments: str) -> Any:
        return json.loads(self.said(*arguments, "--json"))

    def refused(self, *arguments: str, status: int = 1) -> str:
        """What a command that must fail says, on one line."""
        done = self.run(*arguments)
        assert (done.status, done.stdout) == (status, b""), done.stdout
        return re.sub(r"[\s\u2502]+", " ", done.stderr.decode())

    def meanwhile(self, work: Callable[[Store], Coroutine[Any, Any, Any]]) -> Any:
        """Do what a server would do, on a connection of its own."""

        async def run() -> Any:
            store = Store.open(self._url)
            try:
                return await work(store)
            finally:
                await store.close()

        return asyncio.run(run())

    def settle_runs(self, account: Account, key: ApiKey, *runs: dict[str, Any]) -> list[Prediction]:
        """Claim and settle runs of 100 tokens in; each may say ``model``, ``door``, ``tokens`` and ``at_ms``."""

        async def work(store: Store) -> list[Prediction]:
            books = Books(store, account, key)
            settled: list[Prediction] = []
            for run in runs:
                books.now_ms = run.get("at_ms", books.now_ms)
                where = {name: run[name] for name in ("model", "door") if name in run}
                settled.append(await books.settle(await books.claim(**where), tokens=run.get("tokens", 10)))
            return settled

        return self.meanwhile(work)

    def begin(self, **options: Any) -> tuple[Account, ApiKey]:
        """An account called Ann with a dollar, and a key of it."""

        async def work(store: Store) -> tuple[Account, ApiKey]:
            books = await Books.begin(store, **options)
            return books.account, books.key

        return self.meanwhile(work)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database: making one takes a while, copying it does not."""
    path = tmp_path_factory.mktemp("migrated") / "corral.db"
    asyncio.run(Store.open(f"sqlite:///{path}").close())
    return path


@pytest.fixture
def ledgers(tmp_path: Path, migrated: Path, monkeypatch: pytest.MonkeyPatch) -> Ledgers:
    """Books without an account."""
    shutil.copy(migrated, tmp_path / "corral.db")
    monkeypatch.setenv("CORRAL_DATA_DIR", str(tmp_path))
    return Ledgers(tmp_path)
