"""Operations on a database from another process: ``python children.py <what> <url> …``."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from sqlalchemy import Connection

from corral.core.accounts import Account, ApiKey
from corral.store.books import accounts, keys
from corral.store.runs.settlements import unfinished
from corral.store.store import Store
from tests.contract.store.books import NOON, Books, ended, settle_counted

ROOT = Path(__file__).parents[3]


def start(what: str, url: str, *arguments: str) -> subprocess.Popen[str]:
    """A process that does *what*."""
    command = [sys.executable, __file__, what, url, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


async def open_only(url: str) -> None:
    """What a server does when it starts, once told to."""
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    store = Store.open(url)
    await store.write(lambda c: accounts.ensure_local_account(c, now_ms=NOON))
    await store.close()


async def run_pairs(url: str, account_id: str, count: str, first_id: str) -> None:
    """*count* runs of one account, claimed and settled side by side."""
    store = Store.open(url)
    print("open", flush=True)

    def find(connection: Connection) -> tuple[Account, ApiKey]:
        account = accounts.get_account(connection, account_id)
        assert account is not None
        return account, keys.list_keys(connection, account_id)[0]

    books = Books(store, *await store.read(find))

    async def pair(number: int) -> None:
        prediction = await books.claim(prediction_id=f"{first_id}{number}")
        await books.settle(prediction)

    await asyncio.gather(*(pair(number) for number in range(int(count))))
    await store.close()


async def die_in_a_group(url: str) -> None:
    """Claim 10 and settle 5, then be killed with 20 more claims and 5 settlements done but not committed."""
    store = Store.open(url)
    books = await Books.begin(store)
    running = [await books.claim() for _ in range(10)]
    for prediction in running[:5]:
        await books.settle(prediction)

    def settle_and_die(connection: Connection) -> None:
        for held in unfinished(connection):
            settle_counted(connection, ended(held.prediction), now_ms=NOON)
        os.kill(os.getpid(), signal.SIGKILL)

    # The writer is kept busy until all of it is queued: the works are one group.
    go = threading.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(store.write(lambda _: go.wait()))
        await asyncio.sleep(0)
        if url.startswith("sqlite"):
            for _ in range(20):
                tasks.create_task(books.claim())
        tasks.create_task(store.write(settle_and_die))
        await asyncio.sleep(0)
        go.set()


if __name__ == "__main__":
    WHATS = {"open_only": open_only, "run_pairs": run_pairs, "die_in_a_group": die_in_a_group}
    asyncio.run(WHATS[sys.argv[1]](*sys.argv[2:]))
