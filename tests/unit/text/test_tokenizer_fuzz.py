"""Ten thousand damaged tokenizer files: each is read or refused, soon, and text never becomes a control token."""

import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import gguf
import pytest

from corral.core.errors import CheckpointRefused
from corral.text.load import load_tokenizer
from tests.byte_level_vocabulary import byte_level_config, byte_level_document, byte_level_metadata
from tests.memory import little_memory
from tests.oracle.gguf_llama import finish, write_metadata
from tests.vocabulary import vocabulary_document

MUTATIONS = 10_000
SHARES = 8
"""Tests among which they are divided, so that each is done well within its time on a busy machine."""
SLOWEST_S = 5.0
SPARE_BYTES = 192 * 2**20
"""What the process may grow by; room for what Python and the libraries themselves do."""
TEXT = "the cat's 12 <think> na\u00efve\n\n  \x04\U00040000 <|im_end|></s>[INST] \ud55c"
EDGES: tuple[object, ...] = (
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        2,
        300,
        999_999,
        10**6,
        2**31,
        2**32,
        2**63,
        10**300,
        0.5,
        1e308,
        "",
        "t",
        " ",
        "\0",
    ),
    *("<|im_end|>", "</s>", "<0x41>", "\u2581", "\u0120", "\ud800", "\U0010ffff", "x" * 10_000, [], {}, [[]], [None]),
    *(
        {"a": {}},
        "BPE",
        "ByteLevel",
        "Metaspace",
        "Sequence",
        "Split",
        "NFC",
        "TemplateProcessing",
        {"Regex": "(a+)+$"},
    ),
)


def sound_documents() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """A ``tokenizer.json`` and a ``tokenizer_config.json`` of each kind."""
    found = [
        (byte_level_document(family), byte_level_config() | {"add_bos_token": True})
        for family in ("llama-bpe", "smollm")
    ]
    return [*found, (vocabulary_document(), {"bos_token": "<s>", "eos_token": "</s>"})]


def mutate(document: dict[str, Any], randomness: random.Random) -> None:
    """Change one to three values at random places."""
    for _ in range(randomness.choice((1, 1, 2, 3))):
        node: Any = document
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys:
                break
            key = randomness.choice(keys)
            child = node[key]
            if isinstance(child, dict | list) and child and randomness.random() < 0.85:
                node = child
                continue
            change(node, key, randomness)
            break


def change(node: Any, key: Any, randomness: random.Random) -> None:
    match randomness.choice(("edge", "edge", "edge", "delete", "copy", "rename")):
        case "edge":
            node[key] = deepcopy(randomness.choice(EDGES))
        case "delete":
            del node[key]
        case "copy":
            other = randomness.choice(list(node) if isinstance(node, dict) else list(range(len(node))))
            node[key] = deepcopy(node[other])
        case _ if isinstance(node, dict):
            node[randomness.choice([edge for edge in EDGES if isinstance(edge, str)])] = node.pop(key)
        case _:
            node.append(deepcopy(node[key]))


def damage(content: bytes, randomness: random.Random) -> bytes:
    """Change bytes, as a broken transfer does."""
    data = bytearray(content)
    at = randomness.randrange(len(data))
    match randomness.randrange(4):
        case 0:
            del data[at:]
        case 1:
            data[at] ^= 1 << randomness.randrange(8)
        case 2:
            data[at : at + 8] = randomness.randbytes(4)
        case _:
            data[at:at] = data[: randomness.randrange(200)]
    return bytes(data)


@pytest.fixture
def limited_memory() -> Iterator[None]:
    with little_memory(SPARE_BYTES):
        yield


def outcome(path: Path) -> str:
    """Load and use a tokenizer."""
    began = time.process_time()
    try:
        tokenizer = load_tokenizer(path)
    except CheckpointRefused as refused:
        assert len(str(refused)) < 2_000
        return "refused"
    ids = tokenizer.encode(TEXT)
    assert not set(tokenizer.control_ids.values()).intersection(ids)
    assert all(0 <= token_id < tokenizer.vocab_size for token_id in ids)
    assert len(ids) * tokenizer.longest_piece_chars >= len(TEXT)
    assert tokenizer.end_ids.issubset(tokenizer.control_ids.values())
    assert tokenizer.bos_token_id is None or tokenizer.bos_token_id in tokenizer.control_ids.values()
    assert time.process_time() - began < SLOWEST_S
    return "read"


@pytest.mark.parametrize("share", range(SHARES))
def test_damaged_json_files_are_read_or_refused(share: int, tmp_path: Path, limited_memory: None) -> None:  # noqa: ARG001
    randomness = random.Random(share)
    sound = [(json.dumps(document), json.dumps(config)) for document, config in sound_documents()]
    outcomes: Counter[str] = Counter()
    for _ in range(MUTATIONS // SHARES):
        document, config = map(json.loads, randomness.choice(sound))
        mutate(document if randomness.random() < 0.8 else config, randomness)
        content = json.dumps(document).encode()
        if randomness.random() < 0.1:
            content = damage(content, randomness)
        (tmp_path / "tokenizer.json").write_bytes(content)
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
        outcomes[outcome(tmp_path)] += 1
    assert min(outcomes["read"], outcomes["refused"]) > MUTATIONS / SHARES / 20, outcomes


@pytest.mark.parametrize("share", range(2))
def test_damaged_gguf_vocabularies_are_read_or_refused(share: int, tmp_path: Path, limited_memory: None) -> None:  # noqa: ARG001
    randomness = random.Random(share)
    path = tmp_path / "tiny.gguf"
    outcomes: Counter[str] = Counter()
    for number in range(1_000):
        metadata = byte_level_metadata(randomness.choice(("llama-bpe", "qwen2"))) | {"tokenizer.ggml.eot_token_id": 3}
        key = randomness.choice(list(metadata))
        value = metadata[key]
        if isinstance(value, list) and randomness.random() < 0.8:
            at = randomness.randrange(len(value))
            value[at] = randomness.choice(
                [0, 1, 2, 3, 4, 5, 6, 7] if isinstance(value[at], int) else ["", "t", "a b", " "]
            )
        else:
            metadata[key] = randomness.choice([None, True, 0, 5, 300, 2**31, "", "gpt2", "x", 0.5, ["a"], [1]])
        writer = gguf.GGUFWriter(path, "llama")
        write_metadata(writer, metadata)
        finish(writer)
        if number % 4 == 0:
            path.write_bytes(damage(path.read_bytes(), randomness))
        outcomes[outcome(path)] += 1
    assert min(outcomes["read"], outcomes["refused"]) > 20, outcomes
