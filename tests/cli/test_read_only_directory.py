"""A read-only data directory: commands that only read work, others fail with one sentence."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.harness import CliHarness
from tests.cli.processes import PATIENCE_S

CORRAL = Path(sys.executable).with_name("corral")
READS = ["account list", "reconcile", "webhooks secret --account ann"]
WRITES = ["account create bob", "key create --account ann"]


def outcomes(data_dir: Path, commands: list[str]) -> dict[str, tuple[int, str]]:
    """Run commands where *data_dir* cannot be written; exit status and what was printed, by command."""
    # All at once, for most of their time is starting.
    runs = [
        f"(said=$({CORRAL} {each} 2>&1); printf '%s\\t%s\\n\\f' $? \"$said\" > $out/{at}) &"
        for at, each in enumerate(commands)
    ]
    place = shlex.quote(str(data_dir))
    # Nothing but a read-only mount keeps root from writing.
    mount = f"mount --bind {place} {place} && mount -o remount,ro,bind {place} || exit 77" if os.geteuid() == 0 else ":"
    out = data_dir.with_name("said")
    out.mkdir(exist_ok=True)
    script = "\n".join([mount, f"out={shlex.quote(str(out))}", *runs, "wait"])
    prefix = ["unshare", "--map-root-user", "--mount"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*prefix, "bash", "-c", script],
        env={"PATH": os.defpath, "HOME": "/nowhere", "CORRAL_DATA_DIR": str(data_dir)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S * 4,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip(f"no read-only mount can be made here: {done.stderr.strip()}")
    found = [(out / str(at)).read_text().rstrip("\n\f").split("\t", 1) for at in range(len(commands))]
    return {command: (int(status), said) for command, (status, said) in zip(commands, found, strict=True)}


@pytest.fixture
def books(cli: CliHarness) -> CliHarness:
    cli.output("account", "create", "ann", "--credit", "5")
    cli.output("webhooks", "secret", "--account", "ann")
    return cli


def locked(data_dir: Path, *, locked: bool) -> None:
    """For users other than root, a mode without ``w``."""
    for path in (data_dir, *data_dir.iterdir()):
        path.chmod((0o500 if path.is_dir() else 0o400) if locked else (0o700 if path.is_dir() else 0o600))


def test_commands_that_only_read_work_and_others_are_refused_in_a_sentence(books: CliHarness) -> None:
    locked(books.data_dir, locked=True)
    said = outcomes(books.data_dir, READS + WRITES)
    locked(books.data_dir, locked=False)
    assert {command: status for command, (status, _) in said.items()} == dict.fromkeys(READS, 0) | dict.fromkeys(
        WRITES, 1
    )
    assert "\tann\t5\t0\t" in said["account list"][1]
    for command in WRITES:
        assert said[command][1] == (
            f"corral: The database {books.data_dir}/corral.db cannot be written. "
            "Run the command as a user who may write it."
        )


def test_commands_read_the_latest_changes_of_a_running_server(books: CliHarness) -> None:
    async def look(_store: object) -> dict[str, tuple[int, str]]:
        # Another process has the database open, with its last transaction in the -wal file only.
        assert (books.data_dir / "corral.db-wal").exists()
        return outcomes(books.data_dir, ["account list"])

    said = books.with_store(look)
    assert said["account list"][0] == 0
    assert "ann" in said["account list"][1]
