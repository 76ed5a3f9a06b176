"""A small Llama-2-style vocabulary for random models: every byte, every printable character, some words."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.oracle.llama import TinyLlama

WORD_BORDER = "\u2581"
_WORDS = (
    "the",
    "cat",
    "name",
    "age",
    '":',
    '{"',
    '"}',
    "true",
    "null",
    "12",
    "2024",
    "\u00e9t\u00e9",
    "\u65e5\u672c",
    "  ",
    "ing",
)
PIECES = (
    "<unk>",
    "<s>",
    "</s>",
    *(f"<0x{byte:02X}>" for byte in range(256)),
    *(chr(code) for code in range(33, 127)),
    WORD_BORDER,
    *(f"{border}{word.replace(' ', WORD_BORDER)}" for border in ("", WORD_BORDER) for word in _WORDS),
)


def text_of(ids: list[int]) -> bytes:
    """What ids stand for."""
    return b"".join(_bytes_of(PIECES[token_id]) for token_id in ids)


def _bytes_of(piece: str) -> bytes:
    if piece in PIECES[:3]:
        return b""
    if piece in PIECES[3:259]:
        return bytes([int(piece[3:5], 16)])
    return piece.replace(WORD_BORDER, " ").encode()


def write_with_vocabulary(model: TinyLlama, directory: Path) -> Path:
    """A checkpoint with this vocabulary and a few ids of padding, as published ones have."""
    checkpoint = replace(model, vocab=len(PIECES) + 5).write(directory)
    (checkpoint / "tokenizer.json").write_text(json.dumps(vocabulary_document()))
    return checkpoint


def vocabulary_document(pieces: Sequence[str] = PIECES) -> dict[str, Any]:
    """A vocabulary as a ``tokenizer.json`` without merges."""
    return {
        "added_tokens": [{"id": n, "content": piece, "special": True} for n, piece in enumerate(pieces[:3])],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": WORD_BORDER},
                {"type": "Replace", "pattern": {"String": " "}, "content": WORD_BORDER},
            ],
        },
        "model": {
            "type": "BPE",
            "byte_fallback": True,
            "vocab": {piece: n for n, piece in enumerate(pieces)},
            "merges": [],
        },
    }
