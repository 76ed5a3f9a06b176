"""Which file of a checkpoint is used, everywhere alike, and what is said about the others."""

import json
from pathlib import Path
from typing import Any

import pytest

from corral.checkpoints.gguf import GgufFile
from corral.checkpoints.gguf_vocabulary import gguf_vocabulary
from corral.checkpoints.vocabulary_choice import choose_vocabulary
from corral.core.errors import CheckpointRefused
from corral.text.load import load_tokenizer, load_with_warnings
from tests.byte_level_vocabulary import byte_level_bytes
from tests.oracle.gguf_llama import GgufLlama, vocabulary_metadata
from tests.vocabulary import PIECES, WORD_BORDER, vocabulary_document

ASCII = [piece for piece in PIECES if piece.replace(WORD_BORDER, "").isascii()]
"""Pieces of characters that are pieces themselves."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small ``tokenizer.model``."""
    changes = {key.replace(".", "__"): value for key, value in vocabulary_metadata(ASCII).items()}
    path = GgufLlama().write_gguf(tmp_path_factory.mktemp("source") / "source.gguf", **changes)
    with GgufFile(path) as file:
        return gguf_vocabulary(file).content


def merged_document() -> dict[str, Any]:
    """The same vocabulary as ``tokenizer.json``, with all merges: SentencePiece derives them from scores."""
    document = vocabulary_document(ASCII)
    document["model"]["merges"] = [
        [piece[:cut], piece[cut:]]
        for piece in ASCII[259:]
        for cut in range(1, len(piece))
        if piece[:cut] in ASCII and piece[cut:] in ASCII
    ]
    return document


BROKEN = [
    b"",
    b"{",
    b"[]",
    b'{"model": {"type": "Unigram"}}',
    b'{"a":' * 100_000,
    b"\xff\xfe",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
]


@pytest.mark.parametrize("content", BROKEN, ids=range(len(BROKEN)))
def test_a_broken_tokenizer_json_gives_way_to_a_good_tokenizer_model(
    content: bytes, model: bytes, tmp_path: Path
) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    (tmp_path / "tokenizer.model").write_bytes(model)
    assert choose_vocabulary(tmp_path).vocabulary.file == "tokenizer.model"
    loaded = load_with_warnings(tmp_path)
    assert (loaded.file, loaded.tokenizer.vocab_size) == ("tokenizer.model", len(ASCII))
    [warning] = loaded.warnings
    assert warning.startswith("tokenizer.model is used instead of tokenizer.json: tokenizer.json")


def test_a_huge_tokenizer_json_gives_way_too(model: bytes, tmp_path: Path) -> None:
    with (tmp_path / "tokenizer.json").open("wb") as sparse:
        sparse.truncate(64 * 2**20 + 1)
    (tmp_path / "tokenizer.model").write_bytes(model)
    assert load_tokenizer(tmp_path).vocab_size == len(ASCII)


def test_two_broken_files_are_both_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{")
    (tmp_path / "tokenizer.model").write_bytes(b"no model")
    with pytest.raises(CheckpointRefused, match=r"tokenizer\.json cannot be read: .* tokenizer\.model holds no"):
        load_tokenizer(tmp_path)


def test_files_that_agree_cause_no_warning(model: bytes, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps(merged_document()))
    (tmp_path / "tokenizer.model").write_bytes(model)
    loaded = load_with_warnings(tmp_path)
    assert (loaded.file, loaded.warnings) == ("tokenizer.json", [])


@pytest.mark.parametrize("other", ["byte-level", "without merges"])
def test_files_that_disagree_are_both_named(other: str, model: bytes, tmp_path: Path) -> None:
    document = vocabulary_document(ASCII)
    content = byte_level_bytes("gpt-2") if other == "byte-level" else json.dumps(document).encode()
    (tmp_path / "tokenizer.json").write_bytes(content)
    (tmp_path / "tokenizer.model").write_bytes(model)
    loaded = load_with_warnings(tmp_path)
    assert loaded.file == "tokenizer.json"
    [warning] = loaded.warnings
    assert warning.startswith("tokenizer.json and tokenizer.model encode ")
    assert "tokenizer.json is used" in warning


def test_an_unreadable_second_file_is_not_compared(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(byte_level_bytes("llama-bpe"))
    (tmp_path / "tokenizer.model").write_bytes(b"IQ== 0\nIg== 1\n")  # Llama 3's own format
    assert load_with_warnings(tmp_path).warnings == []


def test_a_gguf_file_has_one_vocabulary(tmp_path: Path) -> None:
    path = GgufLlama().write_gguf(tmp_path / "tiny.gguf")
    loaded = load_with_warnings(path)
    assert (loaded.file, loaded.warnings) == ("tiny.gguf", [])
