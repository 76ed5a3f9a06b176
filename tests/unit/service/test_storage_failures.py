"""A database that cannot be written: nothing is forgotten, the state says so, and one bad run holds up no other."""

import asyncio
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from corral.core.errors import StorageUnavailable
from corral.core.prediction import Status, StoppedBy
from corral.core.server_state import ServerState
from corral.service import predictions
from corral.store import streams
from corral.store.failures import StoreFailed
from tests.engines import DEADLINE_S
from tests.unit.service.desk import Desk, limited, numbered, open_desk

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
    """A file that takes all the space that is left."""
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


async def test_a_full_disk_delays_the_settlement_and_refuses_new_runs_until_there_is_room(
    small_disk: Path, database: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(predictions, "SETTLE_AGAIN_S", 0.05)
    on_disk = Path(shutil.copy(database, small_disk))
    async with open_desk(on_disk, step_s=0.005) as desk:
        async with desk.service.open(desk.ask(limited(40), background=True)) as run:
            await anext(run.events())
            filler = fill(small_disk)
            await until(lambda: desk.service.status.state is ServerState.STORAGE_FAILED)
            assert desk.service.status.reason == "The database cannot be written: database or disk is full."
            with pytest.raises(StorageUnavailable, match="database or disk is full"):
                await desk.answer(limited(5))
            await until(lambda: desk.engine.stats().delivered_tokens >= 40)
            assert (await desk.service.get(desk.caller, run.id)).status is Status.PROCESSING
            filler.unlink()
        assert len(await numbered(run)) == 1 + 40 + 2
        assert (await desk.settled(run.id)).completion_tokens == 40
        await until(lambda: desk.service.status.state is ServerState.READY)
        assert len((await desk.answer(limited(5))).choices[0].ids) == 5
    assert "database or disk is full" in capsys.readouterr().out


async def test_a_run_whose_log_is_refused_holds_up_no_other_and_ends_without_output(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictions, "FLUSH_INTERVAL_S", 0.01)
    monkeypatch.setattr(predictions, "SETTLE_AGAIN_S", 0.01)
    append, bad_id = streams.append, ""

    def refuse(connection: Any, prediction_id: str, rows: Any, **more: Any) -> None:
        if prediction_id == bad_id and rows:
            raise StoreFailed("The database refused: row too bad.")
        append(connection, prediction_id, rows, **more)

    for module in (streams, predictions.settlements):
        monkeypatch.setattr(module, "append", refuse)
    async with open_desk(database, step_s=0.005) as desk:
        ask = desk.ask(limited(60), background=True)
        async with desk.service.open(ask) as bad, desk.service.open(ask) as good:
            bad_id = bad.id
            assert len(await numbered(good)) == 1 + 60 + 2
        stored = await desk.settled(bad.id)
        assert (stored.status, stored.stopped_by, stored.cost_nusd) == (Status.FAILED, StoppedBy.ENGINE, 0)
        assert stored.error == "The result could not be stored."
        stored = await desk.settled(good.id)
        assert (stored.status, stored.completion_tokens) == (Status.SUCCEEDED, 60)


async def lose_answers(desk: Desk, monkeypatch: pytest.MonkeyPatch, *, every: int) -> list[int]:
    """Do the work of every write, but give no answer to one in *every*."""
    write, writes = desk.store.write, [0]

    async def lossy(work: Callable[[Any], Any]) -> Any:
        done = await write(work)
        writes[0] += 1
        if writes[0] % every == 0:
            raise StorageUnavailable("The database cannot be reached.")
        return done

    monkeypatch.setattr(desk.store, "write", lossy)
    return writes


@pytest.mark.parametrize("every", [2, 3, 4])
async def test_commits_whose_answers_are_lost_are_recognised(
    database: Path, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    for name in ("SETTLE_AGAIN_S", "FLUSH_INTERVAL_S", "CLAIM_AGAIN_S"):
        monkeypatch.setattr(predictions, name, 0.01)
    async with open_desk(database, step_s=0.003) as desk:
        writes = await lose_answers(desk, monkeypatch, every=every)

        async def one(tokens: int) -> None:
            async with desk.service.open(desk.ask(limited(tokens), background=True)) as run:
                live = await numbered(run)
            assert len(live) == 1 + tokens + 2
            assert await numbered(await desk.service.attach(desk.caller, run.id)) == live
            assert (await desk.settled(run.id)).completion_tokens == tokens

        for tokens in range(30, 90, 10):
            await one(tokens)
        assert writes[0] > 20
