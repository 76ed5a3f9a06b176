"""One server for each database."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from corral.core.errors import BadSetting
from corral.store.databases import gateway_lock
from corral.store.databases.gateway_lock import hold_gateway_lock
from corral.store.store import Store

ADDRESS = "http://127.0.0.1:8000"
HOLD = """
import sys
from corral.store.databases.gateway_lock import hold_gateway_lock
with hold_gateway_lock(sys.argv[1], address="http://127.0.0.1:1"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_second_server_is_rejected_until_the_first_has_ended(url: str) -> None:
    command = [sys.executable, "-c", HOLD, url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"held\n"
        with (
            pytest.raises(BadSetting, match=rf"{first.pid}.*http://127\.0\.0\.1:1"),
            hold_gateway_lock(url, address=ADDRESS),
        ):
            pass
        first.kill()
        first.wait()
    for _ in range(200):  # PostgreSQL ends a dead session when it reads from its socket
        try:
            with hold_gateway_lock(url, address=ADDRESS):
                return
        except BadSetting:
            assert url.startswith("postgresql")
    pytest.fail("the lock of a dead server stays")


@pytest.mark.anyio
async def test_commands_open_a_database_that_a_server_holds(url: str) -> None:
    with hold_gateway_lock(url, address=ADDRESS):
        store = Store.open(url)
        await store.close()


def test_the_lock_file_is_found_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    os.symlink(tmp_path / "data", tmp_path / "link")
    with (
        hold_gateway_lock(f"sqlite:///{tmp_path}/data/corral.db", address=ADDRESS),
        pytest.raises(BadSetting, match=str(os.getpid())),
        hold_gateway_lock(f"sqlite:///{tmp_path}/link/corral.db", address=ADDRESS),
    ):
        pass


def test_the_lock_is_taken_again_when_its_connection_is_lost(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_lock, "CHECK_S", 0.05)
    with hold_gateway_lock(postgres_url, address=ADDRESS), psycopg.connect(postgres_url, autocommit=True) as admin:
        first = holder(admin)
        admin.execute("SELECT pg_terminate_backend(%s)", (first,))
        deadline_s = time.monotonic() + 30
        while holder(admin) in {None, first}:
            assert time.monotonic() < deadline_s


def holder(connection: psycopg.Connection[tuple[int, str]]) -> int | None:
    """The backend that holds the lock."""
    row = connection.execute(gateway_lock.HOLDER.encode(), (gateway_lock.GATEWAY_LOCK,)).fetchone()
    return None if row is None else int(row[0])
