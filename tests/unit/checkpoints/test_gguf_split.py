"""GGUF models in several files: all parts are read as one model, and parts that do not belong together are refused."""

import os
import random
import shutil
import time
import tracemalloc
from collections import Counter
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest

from corral.catalog.versions import weights_digest
from corral.checkpoints.gguf import GgufFile
from corral.checkpoints.source import open_source
from corral.core.errors import CheckpointRefused
from corral.engines.openvino.cache import ModelCache
from corral.engines.openvino.checkpoint import open_checkpoint
from corral.text.load import load_tokenizer
from tests.oracle.gguf_llama import GgufLlama, finish, write_split

TINY = GgufLlama(hidden=32, intermediate=32, layers=2, heads=2, kv_heads=1, tied=True)
MUTATIONS = 10_000
SHARES = 4
"""Tests among which they are divided."""
SLOWEST_S = 2.0
MEASURED_EVERY = 20
MOST_MEMORY_BYTES = 2**20


def refusal(path: Path) -> str:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(CheckpointRefused) as refused:
        open_checkpoint(path)
    assert len(os.listdir("/proc/self/fd")) == before
    return str(refused.value)


@pytest.mark.parametrize("small_first", [False, True])
def test_all_parts_are_read_as_one_model(small_first: bool, tmp_path: Path) -> None:
    parts = write_split(TINY, tmp_path / "tiny.gguf", small_first=small_first)
    assert len(parts) == 3 + small_first
    with open_checkpoint(parts[0]) as checkpoint:
        assert checkpoint.files == parts
        for name, tensor in TINY.tensors().items():
            rows = tensor if tensor.ndim == 2 else tensor[None]
            np.testing.assert_array_equal(checkpoint.read_rows(name, 0, len(rows)), rows)


def test_configuration_and_tokenizer_are_those_of_the_same_model_in_one_file(tmp_path: Path) -> None:
    parts = write_split(TINY, tmp_path / "tiny.gguf")
    whole = TINY.write_gguf(tmp_path / "whole.gguf")
    assert open_source(parts[0]).read_config().values == open_source(whole).read_config().values
    assert load_tokenizer(parts[0]).encode("the cat") == load_tokenizer(whole).encode("the cat")
    assert open_source(parts[0]).name == "tiny"


def test_digests_depend_on_every_part(tmp_path: Path) -> None:
    parts = write_split(TINY, tmp_path / "tiny.gguf")
    versions, contents = {weights_digest(parts[0])}, {digest(parts[0], tmp_path)}
    for part in parts:
        with part.open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"\x55")
        versions.add(weights_digest(parts[0]))
        contents.add(digest(parts[0], tmp_path))
    assert (len(versions), len(contents)) == (4, 4)


def digest(path: Path, cache_dir: Path) -> str:
    with open_checkpoint(path) as checkpoint:
        return ModelCache(cache_dir).digest_files(list(checkpoint.files), lambda _: None)


def test_a_change_of_any_part_is_a_change_of_the_model(tmp_path: Path) -> None:
    parts = write_split(TINY, tmp_path / "tiny.gguf")
    os.utime(parts[2], (4_000_000_000, 4_000_000_000))
    assert open_source(parts[0]).modified_s == 4_000_000_000


# Parts that are refused


def test_missing_parts_are_named(tmp_path: Path) -> None:
    parts = write_split(TINY, tmp_path / "tiny.gguf")
    parts[1].unlink()
    assert refusal(parts[0]) == (
        "tiny-00001-of-00003.gguf is the first of 3 parts of a model; missing beside it: tiny-00002-of-00003.gguf. "
        "Download them into the same directory."
    )


@pytest.mark.parametrize("number", [2, 3])
def test_a_later_part_names_the_first_one(number: int, tmp_path: Path) -> None:
    part = write_split(TINY, tmp_path / "tiny.gguf")[number - 1]
    assert refusal(part) == (
        f"tiny-0000{number}-of-00003.gguf is part {number} of 3 of a model. Give the first part: "
        "tiny-00001-of-00003.gguf."
    )


def test_a_part_of_another_model_is_refused(tmp_path: Path) -> None:
    parts = write_split(TINY, tmp_path / "tiny.gguf")
    dropped = ("model.norm.weight",)
    others = write_split(replace(TINY, seed=1), tmp_path / "other" / "tiny.gguf", tensors=7, drop=dropped)
    shutil.copy(others[2], parts[2])
    message = refusal(parts[0])
    assert message.startswith(
        "tiny-00003-of-00003.gguf is not a part of the model that tiny-00001-of-00003.gguf begins"
    )
    assert "its split.tensors.count is 19, and should be 20. Download the parts again." in message


def test_a_part_under_the_name_of_another_is_refused(tmp_path: Path) -> None:
    parts = write_split(TINY, tmp_path / "tiny.gguf")
    shutil.copy(parts[1], parts[2])
    assert "its split.no is 1, and should be 2" in refusal(parts[0])


def test_a_part_with_another_architecture_is_refused(tmp_path: Path) -> None:
    parts = write_split(TINY, tmp_path / "tiny.gguf")
    rewrite(parts[1], **{"general.architecture": "qwen2"})
    assert 'its general.architecture is "qwen2", and should be "llama"' in refusal(parts[0])


def test_a_part_that_is_a_whole_model_is_refused(tmp_path: Path) -> None:
    parts = write_split(TINY, tmp_path / "tiny.gguf")
    TINY.write_gguf(parts[1])
    assert refusal(parts[0]).startswith("tiny-00002-of-00003.gguf is no part of a model: it has no split.no")


def test_a_tensor_in_two_parts_is_refused(tmp_path: Path) -> None:
    parts = write_split(TINY, tmp_path / "tiny.gguf")
    shutil.copy(parts[1], parts[2])
    rewrite(parts[2], **{"split.no": 2})
    assert "holds the tensor blk.0." in (message := refusal(parts[0]))
    assert "which an earlier part of the model holds too" in message


def test_a_part_that_lacks_tensors_is_refused(tmp_path: Path) -> None:
    parts = write_split(TINY, tmp_path / "tiny.gguf")
    rewrite(parts[2], drop="output_norm.weight", **{"split.no": 2, "split.count": 3})
    assert refusal(parts[0]).startswith(
        "tiny-00001-of-00003.gguf says that all parts hold 20 tensors (split.tensors.count); they hold 19."
    )


@pytest.mark.parametrize("name", ["tiny.gguf", "tiny-00001-of-00004.gguf"])
def test_a_first_part_under_another_name_says_how_to_name_it(name: str, tmp_path: Path) -> None:
    path = write_split(TINY, tmp_path / "tiny.gguf")[0].rename(tmp_path / name)
    assert f"{name} is the first of 3 parts of a model, and the others are found by their names. Name it " in (
        message := refusal(path)
    )
    assert "tiny-00001-of-00003.gguf" in message


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("split.count", 60_000, "says that the model has 60000 parts (split.count); at most 256 are read"),
        ("split.count", "3", 'has a split.count of "3", which is not a number of parts'),
        ("split.no", -1, "has a split.no of -1, which is not a number of parts"),
    ],
)
def test_absurd_numbers_of_parts_are_refused(key: str, value: object, said: str, tmp_path: Path) -> None:
    parts = write_split(TINY, tmp_path / "tiny.gguf")
    rewrite(parts[0], **{key: value})
    assert refusal(parts[0]) == f"tiny-00001-of-00003.gguf {said}."


@pytest.mark.parametrize("name", ["tiny.gguf.part1of2", "tiny.gguf-split-a"])
def test_a_piece_cut_by_size_says_how_to_join_it(name: str, tmp_path: Path) -> None:
    whole = TINY.write_gguf(tmp_path / "whole.gguf").read_bytes()
    (tmp_path / name).write_bytes(whole[:5000])
    assert refusal(tmp_path / name) == (
        f"{name} is a piece of a file that was cut by size. Join all pieces in order to tiny.gguf, for example with "
        "`cat`, and give that file."
    )


def rewrite(path: Path, drop: str = "", **changes: object) -> None:
    """Write a part again with other metadata, or without a tensor."""
    reader = gguf.GGUFReader(path)
    metadata = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")} | changes
    writer = gguf.GGUFWriter(path.with_suffix(".new"), "llama")
    writer.kv_data[0].clear()
    for key, value in metadata.items():
        match value:
            case bool():
                writer.add_bool(key, value)
            case int():
                writer.add_int32(key, value)
            case float():
                writer.add_float32(key, value)
            case str():
                writer.add_string(key, value)
            case _:
                writer.add_array(key, value)
    for tensor in reader.tensors:
        if tensor.name != drop:
            writer.add_tensor(tensor.name, np.array(tensor.data), raw_dtype=tensor.tensor_type)
    finish(writer)
    path.with_suffix(".new").replace(path)


# Damage


@pytest.mark.parametrize("share", range(SHARES))
def test_damaged_parts_are_read_or_refused(share: int, tmp_path: Path) -> None:
    parts = write_split(replace(TINY, layers=1), tmp_path / "tiny.gguf", tensors=4)
    sound = [path.read_bytes() for path in parts]
    randomness, outcomes = random.Random(share), Counter[str]()
    for number in range(MUTATIONS // SHARES):
        damaged = randomness.randrange(len(parts))
        parts[damaged].write_bytes(mutated(sound[damaged], sound, randomness))
        is_measured = number % MEASURED_EVERY == 0
        if is_measured:
            tracemalloc.start()
        started = time.process_time()
        outcomes[outcome(parts[0])] += 1
        assert time.process_time() - started < SLOWEST_S, number
        if is_measured:
            assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY_BYTES, number
            tracemalloc.stop()
        parts[damaged].write_bytes(sound[damaged])
    assert min(outcomes["read"], outcomes["refused"]) > MUTATIONS / SHARES / 20, outcomes


def outcome(first: Path) -> str:
    try:
        with GgufFile(first) as file:
            for tensor in file.tensors.values():
                assert len(file.read(tensor.offset, tensor.size_bytes)) == tensor.size_bytes
    except CheckpointRefused as refused:
        assert len(str(refused)) < 1000
        return "refused"
    return "read"


def mutated(part: bytes, parts: list[bytes], randomness: random.Random) -> bytes:
    """Change the header or a random place once or twice, or take another part."""
    data = bytearray(part)
    header_bytes = min(len(part), 3000)
    for _ in range(randomness.choice((1, 1, 2))):
        at = randomness.randrange(header_bytes if randomness.random() < 0.7 else len(part))
        match randomness.choice(("byte", "random", "cut", "insert", "delete", "other", "split")):
            case "byte" if at < len(data):
                data[at] ^= 1 << randomness.randrange(8)
            case "random":
                data[at : at + 8] = randomness.randbytes(8)
            case "cut":
                del data[at:]
            case "insert":
                data[at:at] = randomness.randbytes(randomness.randrange(1, 40))
            case "delete":
                del data[at : at + randomness.randrange(1, 40)]
            case "other":
                data[:] = randomness.choice(parts)
            case _:
                at = data.find(b"split.") + randomness.randrange(30)
                data[at : at + 2] = randomness.choice((b"\xff\xff", b"\0\0", b"\x01\0", b"\x02\0"))
    return bytes(data)
