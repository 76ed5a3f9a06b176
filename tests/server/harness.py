"""Start a server on a temporary data directory with a tiny priced model, in this process or as a subprocess."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from corral import bootstrap, engine_kinds
from corral.bootstrap import open_accounts, open_store
from corral.checkpoints.tokenizers.byte_fallback import BYTE_PIECES, WORD_BORDER
from corral.core.caller import Caller
from corral.core.prediction import Prediction
from corral.service.accounts.api_keys import KeyTerms
from corral.service.accounts.services import AccountServices
from corral.settings import Settings, load_settings
from corral.store.runs import predictions
from corral.store.store import Store
from tests.doors.live_server import SECRET, LiveServer, serving
from tests.oracle.llama import TinyLlama
from tests.server.gateway import renderers, scripted
from tests.unit.text.conftest import document_of

MODEL = "local/tiny"
INPUT_NUSD, OUTPUT_NUSD = 650, 2750
DOLLAR = 10**9
PATIENCE_S = 60
_PIECES = ["<unk>", "<s>", "</s>", *BYTE_PIECES, WORD_BORDER]
SCRIPT = {"vocab_size": len(_PIECES), "kv_blocks": 4096}
"""Options of a scripted engine whose every token has a text in the tokenizer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerHarness:
    """Data directory, database and settings of a test server, which can be started several times."""

    directory: Path
    database_url: str = ""
    port: int = 0
    """0 picks a free port at each start."""
    more: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Additional settings."""

    @classmethod
    def create(cls, directory: Path, database_url: str = "", *, more_pieces: Sequence[str] = ()) -> "ServerHarness":
        """Write a tiny checkpoint and its price to *directory*; *more_pieces* are extra tokens after the bytes."""
        pieces = [*_PIECES, *more_pieces]
        checkpoint = TinyLlama(vocab=len(pieces)).write(directory / "tiny")
        (checkpoint / "tokenizer.json").write_text(json.dumps(document_of(pieces, [])))
        (directory / "prices.toml").write_text(
            f'[["{MODEL}"]]\nsince = 2026-01-01\n'
            f'input_usd_per_million = "{INPUT_NUSD / 1000}"\noutput_usd_per_million = "{OUTPUT_NUSD / 1000}"\n'
        )
        return cls(directory=directory, database_url=database_url)

    @property
    def choices(self) -> dict[str, Any]:
        """Settings as command line options."""
        return {
            "model": str(self.directory / "tiny"),
            "chat_format": "llama-2",
            "data_dir": str(self.directory / "data"),
            "prices": str(self.directory / "prices.toml"),
            "database_url": self.database_url,
            "api_key": SECRET,
            "port": self.port,
            "webhook_allow_networks": "127.0.0.0/8",
            **self.more,
        }

    @property
    def settings(self) -> Settings:
        """The parsed ``choices``."""
        return load_settings(self.choices, {})

    @asynccontextmanager
    async def books(self) -> AsyncIterator["Books"]:
        """Open the database, whether or not the server is running."""
        store = open_store(self.settings)
        try:
            yield Books(store, open_accounts(self.settings, store))
        finally:
            await store.close()

    @asynccontextmanager
    async def server(self, **script: Any) -> AsyncIterator["OpenServer"]:
        """Run the server in this process; *script* has the fields of ScriptedOptions."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engine_kinds, "SubprocessWorker", scripted({**SCRIPT, **script}))
            patch.setattr(bootstrap, "renderers", renderers)
            made = bootstrap.build(self.settings, lambda _: None)
        async with made.run():
            await made.engine.ready()
            async with serving(made.app) as live:
                yield OpenServer(port=live.port, made=made)

    @asynccontextmanager
    async def gateway(
        self, *, point: str = "", webhook_url: str = "", log: Path | None = None, **script: Any
    ) -> AsyncIterator["Gateway"]:
        """Run the server as a subprocess while the block is active or until it kills itself at *point*.

        Every run sends its ``completed`` webhook to *webhook_url*.
        """
        orders = {"settings": self.choices, "script": {**SCRIPT, **script}, "point": point, "webhook_url": webhook_url}
        with nullcontext() if log is None else log.open("wb") as stderr:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.server.gateway", json.dumps(orders)),
                cwd=Path(__file__).parents[2],
                env={**os.environ, "NO_COLOR": "1"},
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
            )
        try:
            async with asyncio.timeout(PATIENCE_S):
                yield Gateway(port=await _port(process), process=process)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def _port(process: asyncio.subprocess.Process) -> int:
    """Read the port from the banner."""
    assert process.stdout is not None
    port = 0
    async for line in process.stdout:
        if b"answers at" in line:
            port = int(line.rpartition(b":")[2])
        if b"Ctrl-C" in line:
            return port
    raise AssertionError("the gateway ended before it served")


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenServer(LiveServer):
    """A server in this process, with access to its objects."""

    made: bootstrap.Server

    @property
    def books(self) -> "Books":
        """Its accounts and predictions."""
        return Books(self.made.store, self.made.account_services)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway(LiveServer):
    """A server in a subprocess."""

    process: asyncio.subprocess.Process

    async def kill(self) -> None:
        """``kill -9``: nothing is flushed, closed or rolled back."""
        self.process.kill()
        await self.wait_killed()

    async def wait_killed(self) -> None:
        """Wait until the process was killed, by itself or by ``kill``."""
        assert await self.process.wait() == -signal.SIGKILL


def _page(connection: Connection, *, account_id: str, before: str | None) -> list[Prediction]:
    return predictions.page(connection, account_id, before=before)


class Books:
    """Accounts and predictions in a server's database."""

    def __init__(self, store: Store, services: AccountServices) -> None:
        self.store = store
        self.accounts = services.accounts
        self.keys = services.keys
        self.usage = services.usage

    async def open_account(self, credit_nusd: int = DOLLAR, **terms: Any) -> tuple[str, str]:
        """Create a prepaid account; return its id and an API key."""
        account = await self.accounts.create(f"Ann {os.urandom(4).hex()}")
        await self.accounts.credit(account.id, credit_nusd)
        _, secret = await self.keys.create(account.id, KeyTerms(**{"name": "test", **terms}))
        return account.id, secret

    async def predictions(self, account_id: str) -> list[Prediction]:
        """All predictions of the account, newest first."""
        found: list[Prediction] = []
        while page := await self.store.read(
            partial(_page, account_id=account_id, before=found[-1].id if found else None)
        ):
            found += page
        return found

    async def caller(self, secret: str) -> Caller:
        """Authenticate an API key."""
        caller = await self.keys.authenticate(secret)
        assert caller is not None
        return caller

    async def check(self, account_id: str, *, credit_nusd: int = DOLLAR) -> None:
        """Assert that the books agree, no credit is held, and the account paid exactly for its predictions."""
        assert await self.usage.reconcile() == []
        account = await self.accounts.get(account_id)
        assert account.held_nusd == 0
        paid_nusd = 0
        for one in await self.predictions(account_id):
            assert one.status.terminal
            assert one.receipt is not None
            billed = one.receipt["prompt_tokens"] * INPUT_NUSD + one.completion_tokens * OUTPUT_NUSD
            assert one.cost_nusd == billed
            paid_nusd += billed
        assert account.available_nusd == credit_nusd - paid_nusd
