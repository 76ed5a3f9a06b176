"""Ten thousand damaged GGUF files: each is read whole or refused, soon and without more memory than it merits."""

import random
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from corral.core.errors import CheckpointRefused
from corral.engines.openvino.checkpoint import open_checkpoint
from corral.text.load import load_tokenizer
from tests.memory import little_memory
from tests.oracle.gguf_llama import GgufLlama
from tests.oracle.variants import LINEAR, LLAMA3
from tests.vocabulary import PIECES

MUTATIONS = 10_000
SHARES = 4
"""Tests among which they are divided, so that each is done well within its time on a busy machine."""
MODELS = (
    GgufLlama(kind="Q4_0"),
    GgufLlama(kind="Q4_1", attention_bias=True, rope_scaling=dict(LLAMA3)),
    GgufLlama(kind="Q4_0", architecture="qwen2", rope_scaling=dict(LINEAR)),
    GgufLlama(kind="Q8_0", architecture="qwen3", own_head_dim=32),
)
SLOWEST_S = 2.0
MEASURED_EVERY = 20
MOST_MEMORY_BYTES = 2**20
"""Three times what reading the sound file takes: its whole header, every piece as an object, its tensors."""
SPARE_BYTES = 64 * 2**20
"""What the process may grow by; room for what Python itself does."""
EDGES = (0, 1, 2, 3, 4, 8, 9, 31, 32, 33, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1)


@pytest.mark.parametrize("share", range(SHARES))
def test_a_damaged_file_is_read_or_refused(share: int, tmp_path: Path, limited_memory: None) -> None:  # noqa: ARG001
    model = replace(MODELS[share], hidden=32, intermediate=32, layers=1, heads=2, kv_heads=1, tied=True)
    path = model.write_gguf(tmp_path / "tiny.gguf")
    sound = path.read_bytes()
    structure = places(sound, model)
    randomness = random.Random(share)
    outcomes: Counter[str] = Counter()
    for number in range(MUTATIONS // SHARES):
        path.write_bytes(mutated(sound, structure, randomness))
        started = time.process_time()
        outcomes[outcome(path) if number % MEASURED_EVERY else measured_outcome(path)] += 1
        assert time.process_time() - started < SLOWEST_S, number
    assert outcomes.keys() == {"read", "refused"}
    assert min(outcomes.values()) > MUTATIONS / SHARES / 20, outcomes


@pytest.fixture
def limited_memory() -> Iterator[None]:
    with little_memory(SPARE_BYTES):
        yield


def outcome(path: Path) -> str:
    try:
        read_whole(path)
    except CheckpointRefused as refused:
        assert len(str(refused)) < 1000
        return "refused"
    return "read"


def measured_outcome(path: Path) -> str:
    """Seen by an allocator that counts, and takes four times as long."""
    tracemalloc.start()
    try:
        found = outcome(path)
        assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY_BYTES
    finally:
        tracemalloc.stop()
    return found


def read_whole(path: Path) -> None:
    """Everything that serving would read."""
    with open_checkpoint(path) as checkpoint:
        for name, sizes in checkpoint.shape.tensors().items():
            checkpoint.read_rows(name, 0, sizes[0] if len(sizes) == 2 else 1)
    load_tokenizer(path).encode("the cat</s> \u00e9t\u00e9")


def places(sound: bytes, model: GgufLlama) -> list[int]:
    """Where keys, types, counts and offsets begin; random places nearly always fall into pieces and weights."""
    found = [0, 4, 8, 16]
    for key in model.metadata():
        at = sound.index(key.encode())
        found += [at - 8, at, at + len(key), at + len(key) + 4, at + len(key) + 8]
    table = sound.index(b"token_embd.weight") - 8
    found += range(table, sound.rindex(b".weight") + 48, 4)
    found += [sound.index(piece.encode()) - 8 for piece in PIECES[:300:20]]
    return found


def mutated(sound: bytes, structure: list[int], randomness: random.Random) -> bytes:
    """One to three changes of all the kinds that damage and malice make."""
    data = bytearray(sound)
    for _ in range(randomness.choice((1, 1, 1, 2, 3))):
        structural = randomness.random() < 0.7
        at = randomness.choice(structure) if structural else randomness.randrange(len(sound))
        at = min(at, len(data))
        match randomness.choice(("edge", "edge", "random", "random", "bit", "cut", "insert", "delete", "copy")):
            case "edge":
                size = randomness.choice((1, 4, 8))
                data[at : at + size] = (randomness.choice(EDGES) % 2 ** (8 * size)).to_bytes(size, "little")
            case "random":
                data[at : at + 4] = randomness.randbytes(4)
            case "bit" if at < len(data):
                data[at] ^= 1 << randomness.randrange(8)
            case "cut":
                del data[at:]
            case "insert":
                data[at:at] = randomness.randbytes(randomness.randrange(1, 40))
            case "delete":
                del data[at : at + randomness.randrange(1, 40)]
            case _:
                source = randomness.choice(structure)
                data[at:at] = data[source : source + randomness.randrange(1, 200)]
    return bytes(data)
