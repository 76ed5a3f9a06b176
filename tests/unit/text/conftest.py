"""Tokenizers for the tests of text: a tiny one built here, and the real Llama-2 one where it is at hand."""

import json
from pathlib import Path
from typing import Any

import pytest
from sentencepiece import SentencePieceProcessor

from corral.catalog.catalog import demo_checkpoint
from corral.checkpoints.tokenizers.byte_fallback import BYTE_PIECES, WORD_BORDER
from corral.text.load import load_tokenizer
from corral.text.tokenizer import Tokenizer
from tests.byte_level_vocabulary import byte_level_bytes
from tests.documents import from_json, from_sentencepiece

LLAMA2_MODEL = Path(__file__).parents[4] / "shared" / "data" / "llama2-tokenizer.model"


def document_of(pieces: list[str], merges: list[list[str]]) -> dict[str, Any]:
    """A ``tokenizer.json`` in the form in which Llama 2's is published."""
    return {
        "version": "1.0",
        "added_tokens": [
            {"id": index, "content": content, "special": True} for index, content in enumerate(["<unk>", "<s>", "</s>"])
        ],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": WORD_BORDER},
                {"type": "Replace", "pattern": {"String": " "}, "content": WORD_BORDER},
            ],
        },
        "pre_tokenizer": None,
        "post_processor": {"type": "TemplateProcessing", "single": [], "pair": [], "special_tokens": {}},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "fuse_unk": True,
            "byte_fallback": True,
            "vocab": {piece: index for index, piece in enumerate(pieces)},
            "merges": merges,
        },
    }


@pytest.fixture
def tiny_document() -> dict[str, Any]:
    """A small ``tokenizer.json`` to bend."""
    return make_tiny_document()


def make_tiny_document() -> dict[str, Any]:
    """Control and byte pieces, the letters of ``</s>hello``, and merges up to ``▁hello``."""
    letters = [WORD_BORDER, *"<>/shelo"]
    merges = [["h", "e"], ["l", "l"], ["he", "ll"], ["hell", "o"], [WORD_BORDER, "hello"], ["<", "/"]]
    pieces = ["<unk>", "<s>", "</s>", *BYTE_PIECES, *dict.fromkeys(letters), *("".join(pair) for pair in merges)]
    return document_of(pieces, merges)


@pytest.fixture(scope="session")
def llama2_bytes() -> bytes:
    """The real ``tokenizer.model``."""
    if not LLAMA2_MODEL.is_file():
        pytest.skip("needs ../shared/data/llama2-tokenizer.model, which is not part of the repository")
    return LLAMA2_MODEL.read_bytes()


@pytest.fixture(scope="session")
def llama2(llama2_bytes: bytes) -> Tokenizer:
    """The real tokenizer, from ``tokenizer.model``."""
    return from_sentencepiece(llama2_bytes)


@pytest.fixture(scope="session")
def llama2_document(llama2_bytes: bytes) -> bytes:
    """The real tokenizer as ``tokenizer.json``: every way to make a piece is a merge, ranked by the piece's score."""
    processor = SentencePieceProcessor()
    processor.LoadFromSerializedProto(llama2_bytes)
    pieces = [processor.IdToPiece(index) for index in range(processor.GetPieceSize())]
    ids = {piece: index for index, piece in enumerate(pieces)}
    ranked = sorted(ids, key=lambda piece: -processor.GetScore(ids[piece]))
    merges = [
        [piece[:cut], piece[cut:]]
        for piece in ranked
        for cut in range(1, len(piece))
        if ids[piece] > 258 and piece[:cut] in ids and piece[cut:] in ids
    ]
    return json.dumps(document_of(pieces, merges)).encode()


@pytest.fixture(scope="session")
def llama2_from_json(llama2_document: bytes) -> Tokenizer:
    """The real tokenizer, from ``tokenizer.json``."""
    return from_json(llama2_document)


@pytest.fixture(scope="session")
def tiny() -> Tokenizer:
    """A small tokenizer with the control and byte ids of Llama 2, which is always at hand."""
    return from_json(make_tiny_document())


@pytest.fixture(scope="session", params=["gpt-2", "llama-bpe", "qwen2", "smollm", "tekken"])
def byte_level(request: pytest.FixtureRequest) -> Tokenizer:
    """A small byte-level tokenizer of each family."""
    return from_json(byte_level_bytes(request.param))


@pytest.fixture(scope="session")
def demo() -> Tokenizer:
    """The demo model's tokenizer."""
    return load_tokenizer(demo_checkpoint())


@pytest.fixture(scope="session", params=["tiny", "llama2", "llama2_from_json"])
def any_tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    """The small tokenizer, and the real one from each of its files."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session", params=["llama2", "llama2_from_json"])
def either_llama2(request: pytest.FixtureRequest) -> Tokenizer:
    """The real tokenizer, from each of its files."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session", params=["demo", "llama2"])
def demo_or_llama2(request: pytest.FixtureRequest) -> Tokenizer:
    """The demo model's tokenizer, and the real one."""
    return request.getfixturevalue(request.param)
