"""Damaged indexes, names and first bytes: each is read or refused by a message, soon and in little memory."""

import json
import random
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from corral.checkpoints.directory_kinds import foreign_kind, top_level, without_weights
from corral.checkpoints.gguf import GgufFile
from corral.checkpoints.weight_files import choose_weight_files
from corral.core.errors import CheckpointRefused
from corral.engines.openvino.safetensors import SafetensorsFile
from tests.oracle.llama import F32, MHA, pack

MUTATIONS = 10_000
SLOWEST_S = 2.0
MEASURED_EVERY = 20
MOST_MEMORY_BYTES = 2**20
MOST_MESSAGE_CHARS = 2000
SHARDS = [f"model-{number:05}-of-00003.safetensors" for number in range(1, 4)]
TOKENS = [
    b'"', b"\\", b"{", b"}", b"[", b"]", b":", b",", b"null", b"1e999", b"-0", b"NaN", b"\xff", b"\0", b"../",
    b"\\u0000", b'"model-00009-of-99999.safetensors"', b'"model-99999-of-00001.safetensors"', b"[" * 500, b"9" * 5000,
]  # fmt: skip
NAMES = [
    *SHARDS, "model.safetensors", "consolidated.safetensors", "model-00001-of-99999.safetensors", ".safetensors",
    "a.gguf", "model-00000-of-00000.safetensors", "x" * 255 + ".npz", "\x1b]0;x\x07.onnx", "onnx/", "snapshots/",
    "checkpoint-/", "checkpoint-1/", "pytorch_model.bin", "optimizer.pt", "{}.npz", "{0.__class__}.onnx", "%s.h5",
    "adapter_config.json", "model_index.json", "\udcff.bin", "consolidated.00.pth", "config.json", "tokenizer.json", "",
]  # fmt: skip
STARTS = [
    b"version https://git-lfs.github.com/spec/v1", b"PK\x03\x04", b"\x80\x02", b"GGUF", b"tjgg", b"\x93NUMPY",
    b"<html>", b"<?xml", b"{", b"\x1f\x8b", b"\x89HDF\r\n\x1a\n", bytes(8) + b"{", b"\xff" * 8 + b"{",
]  # fmt: skip


def count_outcomes(attempt: Callable[[random.Random], object]) -> Counter[str]:
    """Run *attempt* for every mutation; count those that succeed and those that are refused."""
    randomness, outcomes = random.Random(7), Counter[str]()
    for number in range(MUTATIONS):
        is_measured = number % MEASURED_EVERY == 0
        if is_measured:
            tracemalloc.start()
        started = time.process_time()
        try:
            attempt(randomness)
            outcomes["read"] += 1
        except CheckpointRefused as refused:
            assert len(str(refused)) < MOST_MESSAGE_CHARS
            outcomes["refused"] += 1
        assert time.process_time() - started < SLOWEST_S, number
        if is_measured:
            assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY_BYTES, number
            tracemalloc.stop()
    return outcomes


def mutated(sound: bytes, tokens: list[bytes], randomness: random.Random) -> bytes:
    """Change, cut, insert or copy at one to three random places."""
    data = bytearray(sound)
    for _ in range(randomness.choice((1, 1, 2, 3))):
        at = randomness.randrange(len(data) + 1)
        match randomness.choice(("byte", "cut", "token", "token", "delete", "copy")):
            case "byte" if at < len(data):
                data[at] = randomness.randrange(256)
            case "cut":
                del data[at:]
            case "token":
                data[at : at + randomness.choice((0, 1, 8))] = randomness.choice(tokens)
            case "delete":
                del data[at : at + randomness.randrange(1, 60)]
            case _:
                data[at:at] = data[at : at + randomness.randrange(1, 60)]
    return bytes(data)


def test_damaged_index_is_read_or_refused() -> None:
    sound = json.dumps({"metadata": {}, "weight_map": {f"t{number}": name for number, name in enumerate(SHARDS)}})

    def attempt(randomness: random.Random) -> None:
        chosen = choose_weight_files(SHARDS, mutated(sound.encode(), TOKENS, randomness))
        assert set(chosen) <= set(SHARDS)
        assert chosen

    outcomes = count_outcomes(attempt)
    assert min(outcomes["read"], outcomes["refused"]) > MUTATIONS / 50, outcomes


def test_any_names_are_described_or_chosen_from() -> None:
    def attempt(randomness: random.Random) -> None:
        names = frozenset(randomness.choices(NAMES, k=randomness.randrange(8)))
        for kind in (foreign_kind(names), without_weights(names, "place"), without_weights(top_level(names), "place")):
            if kind is not None:
                message = kind.of("place")
                assert len(message) < MOST_MESSAGE_CHARS
                assert message.replace("\n", "").isprintable()
        assert set(choose_weight_files(names, None)) <= names

    outcomes = count_outcomes(attempt)
    assert min(outcomes["read"], outcomes["refused"]) > MUTATIONS / 50, outcomes


def test_any_first_bytes_are_read_or_refused(tmp_path: Path) -> None:
    sound = pack({name: MHA.tensors()[name][:1] for name in ("model.norm.weight",)}, F32)
    path = tmp_path / "model.safetensors"

    def attempt(randomness: random.Random) -> None:
        start = randomness.choice((sound, sound, *STARTS))
        path.write_bytes(mutated(start.ljust(len(sound), b"\0"), STARTS, randomness))
        with SafetensorsFile(path):
            pass
        with GgufFile(path):
            pass

    outcomes = count_outcomes(attempt)
    assert outcomes["refused"] == MUTATIONS, outcomes
