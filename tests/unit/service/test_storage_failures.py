"""A database that cannot be written: nothing is lost, the server state reports it, and one bad run delays no other."""

import asyncio
import shutil
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from corral.core.errors import Overloaded, StorageUnavailable
from corral.core.prediction import Status, StoppedBy
from corral.core.server_state import ServerState
from corral.service.runs import background, recovery, runner, settler
from corral.service.runs.journal import Journal
from corral.store.databases.failures import StoreFailed
from corral.store.runs import settlements, streams
from corral.store.schema import engine_counters
from corral.store.store import Store
from tests.engines import DEADLINE_S
from tests.unit.service.harness import (
    ServiceHarness,
    limited,
    numbered,
    open_account,
    open_harness,
    ready_engine,
    serving,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    mounted = subprocess.run(command, check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip(f"mount is refused here: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def fill(place: Path) -> Path:
    """Create a file that takes all remaining space."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return filler


async def until(holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not holds():
            await asyncio.sleep(0.01)


async def test_full_disk_delays_settlements_and_rejects_new_runs_until_there_is_space(
    small_disk: Path, database: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(settler, "SETTLE_AGAIN_S", 0.05)
    on_disk = Path(shutil.copy(database, small_disk))
    async with open_harness(on_disk, step_s=0.005) as harness:
        async with harness.service.open(harness.ask(limited(40), background=True)) as run:
            await anext(run.events())
            filler = fill(small_disk)
            await until(lambda: harness.service.status.state is ServerState.STORAGE_FAILED)
            assert harness.service.status.reason == "The database cannot be written: database or disk is full."
            with pytest.raises(StorageUnavailable, match="database or disk is full"):
                await harness.answer(limited(5))
            await until(lambda: harness.engine.stats().delivered_tokens >= 40)
            assert (await harness.service.get(harness.caller, run.id)).status is Status.PROCESSING
            filler.unlink()
        assert len(await numbered(run)) == 1 + 40 + 2
        assert (await harness.settled(run.id)).completion_tokens == 40
        await until(lambda: harness.service.status.state is ServerState.READY)
        assert len((await harness.answer(limited(5))).choices[0].ids) == 5
    assert "database or disk is full" in capsys.readouterr().out


async def test_run_whose_log_cannot_be_stored_fails_without_delaying_others(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "FLUSH_INTERVAL_S", 0.01)
    monkeypatch.setattr(settler, "SETTLE_AGAIN_S", 0.01)
    append, bad_id = streams.append, ""

    def refuse(connection: Any, prediction_id: str, rows: Any, **more: Any) -> None:
        if prediction_id == bad_id and rows:
            raise StoreFailed("The database refused: row too bad.")
        append(connection, prediction_id, rows, **more)

    for module in (streams, settlements):
        monkeypatch.setattr(module, "append", refuse)
    async with open_harness(database, step_s=0.005) as harness:
        ask = harness.ask(limited(60), background=True)
        async with harness.service.open(ask) as bad, harness.service.open(ask) as good:
            bad_id = bad.id
            assert len(await numbered(good)) == 1 + 60 + 2
        stored = await harness.settled(bad.id)
        assert (stored.status, stored.stopped_by, stored.cost_nusd) == (Status.FAILED, StoppedBy.ENGINE, 0)
        assert stored.error == "The result could not be stored."
        stored = await harness.settled(good.id)
        assert (stored.status, stored.completion_tokens) == (Status.SUCCEEDED, 60)


async def lose_responses(harness: ServiceHarness, monkeypatch: pytest.MonkeyPatch, *, every: int) -> list[int]:
    """Commit every write, but raise an error after one in *every*."""
    write, writes = harness.store.write, [0]

    async def lossy(work: Callable[[Any], Any]) -> Any:
        done = await write(work)
        writes[0] += 1
        if writes[0] % every == 0:
            raise StorageUnavailable("The database cannot be reached.")
        return done

    monkeypatch.setattr(harness.store, "write", lossy)
    return writes


@pytest.mark.parametrize("every", [2, 3, 4])
async def test_commits_with_a_lost_response_are_recognised(
    database: Path, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    monkeypatch.setattr(settler, "SETTLE_AGAIN_S", 0.01)
    monkeypatch.setattr(background, "FLUSH_INTERVAL_S", 0.01)
    monkeypatch.setattr(runner, "CLAIM_AGAIN_S", 0.01)
    async with open_harness(database, step_s=0.003) as harness:
        writes = await lose_responses(harness, monkeypatch, every=every)

        async def one(tokens: int) -> None:
            async with harness.service.open(harness.ask(limited(tokens), background=True)) as run:
                live = await numbered(run)
            assert len(live) == 1 + tokens + 2
            assert await numbered(await harness.service.attach(harness.caller, run.id)) == live
            assert (await harness.settled(run.id)).completion_tokens == tokens

        for tokens in range(30, 90, 10):
            await one(tokens)
        assert writes[0] > 20


async def test_busy_database_does_not_change_the_server_state(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settler, "SETTLE_AGAIN_S", 0.01)
    settle, states = Journal.settle, list[ServerState]()

    async def busy(journal: Any, *of_run: Any, **terms: Any) -> None:
        states.append(harness.service.status.state)
        if len(states) < 4:
            raise Overloaded("The database is too busy.", retry_after_s=1)
        await settle(journal, *of_run, **terms)

    monkeypatch.setattr(Journal, "settle", busy)
    async with open_harness(database) as harness:
        assert len((await harness.answer(limited(5))).choices[0].ids) == 5
    assert states == [ServerState.READY] * 4


async def test_engine_counters_are_exact_after_failed_writes(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "FLUSH_INTERVAL_S", 0.01)
    async with open_harness(database, step_s=0.003) as harness:
        write, tries = harness.store.write, [0]

        async def failing(work: Callable[[Any], Any]) -> Any:
            tries[0] += 1
            if tries[0] == 1:
                raise StorageUnavailable("The database cannot be written: database or disk is full.")
            done = await write(work)
            if tries[0] == 2:
                raise StorageUnavailable("The database cannot be reached.")
            return done

        await harness.answer(limited(5))
        await harness.balanced()
        stats, asides = harness.engine.stats(), harness.engine.stats().discarded_tokens + 7
        more = replace(stats, emitted_tokens=stats.emitted_tokens + 7, discarded_tokens=asides)
        monkeypatch.setattr(harness.store, "write", failing)
        monkeypatch.setattr(harness.engine, "stats", lambda: more)
        await until(lambda: tries[0] >= 3)
        sums = select(func.sum(engine_counters.c.delivered_tokens), func.sum(engine_counters.c.discarded_tokens))
        stored = await harness.store.read(lambda connection: tuple(connection.execute(sums).one()))
        assert stored == (stats.delivered_tokens, asides)


async def test_server_stops_although_the_database_cannot_be_written(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background, "FLUSH_INTERVAL_S", DEADLINE_S)

    async def full(_work: Any) -> None:
        raise StorageUnavailable("The database cannot be written: database or disk is full.")

    async with ready_engine() as engine, serving(database, engine) as harness:
        await open_account(harness)
        await harness.answer(limited(5))
        stats = engine.stats()
        monkeypatch.setattr(engine, "stats", lambda: replace(stats, discarded_tokens=stats.discarded_tokens + 7))
        monkeypatch.setattr(harness.store, "write", full)


async def test_recovery_retries_until_the_database_works(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "AGAIN_S", 0.01)
    async with ready_engine(step_s=0.005) as engine:
        ids: list[str] = []
        async with serving(database, engine) as harness:
            await open_account(harness)
            for _ in range(2):
                async with harness.service.open(harness.ask(limited(200), background=True)) as run:
                    await anext(run.events())
                ids.append(run.id)
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute("UPDATE predictions SET background = 0 WHERE id = ?", [ids[0]])
        failed = fail_at_first(monkeypatch)
        async with serving(database, engine) as again:
            again.use_account_of(harness)
            abandoned, resumed = [await again.settled(prediction_id) for prediction_id in ids]
            await again.balanced()
            assert (await again.account()).held_nusd == 0
    assert (abandoned.status, abandoned.stopped_by) == (Status.FAILED, StoppedBy.RESTART)
    assert (resumed.status, resumed.completion_tokens) == (Status.SUCCEEDED, 200)
    assert failed == {ids[0]: 2, ids[1]: 2, "settle_unfinished": 2}


def fail_at_first(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Let reads and writes of recovery fail twice, one write after its commit; return the failures by name."""
    read, write, failed = Store.read, Store.write, Counter[str]()
    gone = StorageUnavailable("The database cannot be reached.")

    async def fail_reading(store: Store, work: Any) -> Any:
        if isinstance(work, partial) and work.func is streams.read_from:
            prediction_id = work.keywords["prediction_id"]
            if failed[prediction_id] < 2:
                failed[prediction_id] += 1
                raise gone
        return await read(store, work)

    async def fail_writing(store: Store, work: Any) -> Any:
        if "settle_unfinished" in getattr(work, "__qualname__", "") and failed["settle_unfinished"] < 2:
            failed["settle_unfinished"] += 1
            if failed["settle_unfinished"] == 2:
                await write(store, work)
            raise gone
        return await write(store, work)

    monkeypatch.setattr(Store, "read", fail_reading)
    monkeypatch.setattr(Store, "write", fail_writing)
    return failed
