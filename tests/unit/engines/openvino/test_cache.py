"""The cache of converted models: whole or not at all, found by content."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from corral.core.errors import CheckpointRefused
from corral.engines.openvino.cache import ModelCache, digest_fields
from corral.engines.stepper import Progress
from tests.oracle.batches import silent


def fill(directory: Path) -> None:
    (directory / "model").write_text("whole")


def names(cache_dir: Path) -> set[str]:
    return {path.name for path in (cache_dir / "models").iterdir()} - {"lock", "digests.json"}


def test_model_is_converted_once(tmp_path: Path) -> None:
    made: list[Path] = []

    def convert(directory: Path) -> None:
        made.append(directory)
        fill(directory)

    first = ModelCache(tmp_path).obtain("key", convert, silent)
    second = ModelCache(tmp_path).obtain("key", convert, silent)
    assert first == second
    assert (first / "model").read_text() == "whole"
    assert len(made) == 1


def test_a_conversion_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(directory: Path) -> None:
        fill(directory)
        raise CheckpointRefused("a bad tensor")

    with pytest.raises(CheckpointRefused, match="a bad tensor"):
        ModelCache(tmp_path).obtain("key", fail, silent)
    assert names(tmp_path) == set()
    assert ModelCache(tmp_path).obtain("key", fill, silent).is_dir()


CONVERTER = """
    import sys, time
    from pathlib import Path
    from corral.engines.openvino.cache import ModelCache

    def convert(directory):
        (directory / "model").write_text("half")
        print("converting", flush=True)
        sys.stdin.read(1)
        (directory / "model").write_text("whole")

    ModelCache(Path(sys.argv[1])).obtain("key", convert, lambda progress: None)
"""


def start_converter(cache_dir: Path) -> subprocess.Popen[str]:
    """Another process that stops in the middle of a conversion until a byte is written to it."""
    command = [sys.executable, "-c", textwrap.dedent(CONVERTER), str(cache_dir)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "converting\n"
    return process


def end(process: subprocess.Popen[str], send: signal.Signals | None = None) -> None:
    if send is not None:
        process.send_signal(send)
    process.communicate("x" if send is None else None, timeout=60)


def test_a_killed_conversion_leaves_nothing_usable_and_is_swept_at_the_next_start(tmp_path: Path) -> None:
    end(start_converter(tmp_path), signal.SIGKILL)
    assert names(tmp_path) == {"key.unfinished"}
    assert (ModelCache(tmp_path).obtain("key", fill, silent) / "model").read_text() == "whole"
    assert names(tmp_path) == {"key"}


def test_leftover_files_are_deleted_even_if_the_model_is_cached(tmp_path: Path) -> None:
    ModelCache(tmp_path).obtain("other", fill, silent)
    end(start_converter(tmp_path), signal.SIGKILL)
    ModelCache(tmp_path).obtain("other", fill, silent)
    assert names(tmp_path) == {"other"}


def test_a_second_process_waits_for_the_first_and_uses_its_work(tmp_path: Path) -> None:
    other = start_converter(tmp_path)
    stages: list[str] = []

    def watch(progress: Progress) -> None:
        stages.append(progress.stage)
        assert other.stdin is not None
        other.stdin.write("x")  # not waited for here: that is what the lock is for
        other.stdin.flush()

    def convert(_directory: Path) -> None:
        pytest.fail("the other process has made it already")

    assert (ModelCache(tmp_path).obtain("key", convert, watch) / "model").read_text() == "whole"
    assert stages == ["Waiting for another process that converts a model"]
    assert other.wait(timeout=60) == 0
    other.communicate()


def test_start_neither_waits_for_nor_deletes_another_model_conversion(tmp_path: Path) -> None:
    ModelCache(tmp_path).obtain("other", fill, silent)
    process = start_converter(tmp_path)
    assert ModelCache(tmp_path).obtain("other", fill, silent).is_dir()
    end(process)
    assert names(tmp_path) == {"other", "key"}


# Digests


def digest(cache_dir: Path, *paths: Path) -> tuple[str, int]:
    """The digest and how often progress was told, which is once per chunk read."""
    told: list[Progress] = []
    return ModelCache(cache_dir).digest_files(paths, told.append), len(told)


def test_content_decides_and_an_untouched_file_is_not_read_again(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"a" * 100)
    first, reads = digest(tmp_path, path)
    assert reads == 1
    assert digest(tmp_path, path) == (first, 0)
    status = path.stat()
    path.write_bytes(b"b" * 100)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    changed, reads = digest(tmp_path, path)
    assert (changed != first, reads) == (True, 1), "same size and same modification time, but other bytes"
    path.write_bytes(b"a" * 100)
    assert digest(tmp_path, path) == (first, 1)


def test_a_damaged_index_only_costs_time(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"a")
    first, _ = digest(tmp_path, path)
    for damaged in ("", "[]", '{"x": 5}', f'{{"{path}": [1, 2]}}', f'{{"{path}": []}}'):
        (tmp_path / "models" / "digests.json").write_text(damaged)
        assert digest(tmp_path, path) == (first, 1)


def test_a_copy_elsewhere_has_the_same_digest_and_another_name_another(tmp_path: Path) -> None:
    for place in ("a/weights", "b/weights", "b/other"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_bytes(b"same")
    digests = [digest(tmp_path, tmp_path / place)[0] for place in ("a/weights", "b/weights", "b/other")]
    assert digests[0] == digests[1] != digests[2]


def test_many_chunks_make_one_digest_and_their_order_counts(tmp_path: Path) -> None:
    chunk = 16 * 2**20
    path = tmp_path / "weights"
    path.write_bytes(b"a" * chunk + b"b" * chunk + b"c")
    first, reads = digest(tmp_path, path)
    assert reads == 3
    path.write_bytes(b"b" * chunk + b"a" * chunk + b"c")
    assert digest(tmp_path, path)[0] != first


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"a" * 100)

    def touch(_progress: Progress) -> None:
        path.write_bytes(b"b" * 101)

    with pytest.raises(CheckpointRefused, match="weights changed while it was being read"):
        ModelCache(tmp_path).digest_files([path], touch)


def test_fields_digest_alike_in_any_order() -> None:
    assert digest_fields({"a": 1, "b": 2}) == digest_fields({"b": 2, "a": 1}) != digest_fields({"a": 2, "b": 1})
