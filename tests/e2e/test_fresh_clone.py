"""Clone, ``make run`` and the first documented request, within the times that README states."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FIRST_ANSWER_S = 60
"""From clone to first answer on two cores, with a warm package cache."""
SECOND_START_S = 10
"""Upper bound against slow imports. The target is 3 s; 4 to 5 s are measured on two cores."""
PATIENCE_S = 300


def environment(data_dir: Path) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("CORRAL_", "MAKE", "MFLAGS"))}
    return {**clean, "CORRAL_PORT": "0", "CORRAL_DATA_DIR": str(data_dir)}


@contextmanager
def make_run(clone: Path, data_dir: Path) -> Iterator[str]:
    """Run ``make run`` in an own process group; yields the banner."""
    process = subprocess.Popen(
        ["make", "--silent", "run"],
        cwd=clone,
        env=environment(data_dir),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line)
            if "Ctrl-C" in line:
                break
        yield "".join(lines)
    finally:
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(PATIENCE_S) in {0, 2, -signal.SIGINT}
        process.stdout.close()


def run_banner_curl(banner: str) -> dict[str, list[dict[str, dict[str, str]]]]:
    """Run the curl command of the banner; returns the response."""
    (line,) = [line.strip() for line in banner.splitlines() if line.strip().startswith("curl ")]
    done = subprocess.run(["bash", "-c", f"{line} --silent"], capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout)


@pytest.mark.timeout(PATIENCE_S)
def test_fresh_clone_answers_within_a_minute_and_again_within_seconds(tmp_path: Path) -> None:
    clone, data_dir = tmp_path / "corral", tmp_path / "data"
    began_s = time.monotonic()
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    with make_run(clone, data_dir) as banner:
        answer = run_banner_curl(banner)
        first_s = time.monotonic() - began_s
    assert answer["choices"][0]["message"]["content"].strip()
    began_s = time.monotonic()
    with make_run(clone, data_dir) as banner:
        assert run_banner_curl(banner)["choices"]
        second_s = time.monotonic() - began_s
    print(f"clone to first answer {first_s:.1f} s, second start to answer {second_s:.1f} s")
    assert first_s < FIRST_ANSWER_S
    assert second_s < SECOND_START_S
