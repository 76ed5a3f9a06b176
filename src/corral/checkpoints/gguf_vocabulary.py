"""Convert the vocabulary in a GGUF file to the document that it was made from.

SentencePiece vocabularies (``tokenizer.ggml.model`` is ``llama``) have the pieces, scores and types of the original
``tokenizer.model``. SentencePiece loads the rebuilt model, so that text encodes to the same ids. The message format is
https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto, encoded as in
https://protobuf.dev/programming-guides/encoding/. Byte-level ones (``gpt2``) become a ``tokenizer.json``.
"""

import struct
from array import array
from collections.abc import Sequence
from math import isfinite
from typing import Final

from corral.checkpoints.config import as_written
from corral.checkpoints.gguf import GgufFile
from corral.checkpoints.gguf_values import Numbers
from corral.checkpoints.tokenizers.gguf_byte_level import byte_level_vocabulary
from corral.checkpoints.tokenizers.gguf_tokens import GgufTokens, numbers, read_tokens
from corral.checkpoints.vocabulary import Vocabulary
from corral.core.errors import CheckpointRefused

_MODEL: Final = "tokenizer.ggml.model"
_EXPECTED: Final = {"add_space_prefix": True, "remove_extra_whitespaces": False, "escape_whitespaces": True}
"""Values of Llama 2's tokenizer. None is required."""
_BPE: Final = 2
_FLOATS: Final = "f"


def gguf_vocabulary(file: GgufFile) -> Vocabulary:
    """Convert the file's vocabulary.

    Raises:
        CheckpointRefused: it is missing or not supported; the message names the key and its value.
    """
    match file.metadata.get(_MODEL):
        case "llama":
            return _sentencepiece_vocabulary(read_tokens(file))
        case "gpt2":
            return byte_level_vocabulary(read_tokens(file))
        case value:
            said = f"is {as_written(value)}" if _MODEL in file.metadata else "is missing"
            raise CheckpointRefused(
                f'{file.path.name}: {_MODEL} {said}; only "llama" (SentencePiece) and "gpt2" (byte-level) are read.'
            )


def _sentencepiece_vocabulary(tokens: GgufTokens) -> Vocabulary:
    for field, expected in _EXPECTED.items():
        value = tokens.metadata.get(field, expected)
        if isinstance(value, list | array) or value != expected:
            raise tokens.refused(field, f"is {as_written(value)}; only {as_written(expected)} is supported")
    if "precompiled_charsmap" in tokens.metadata:
        raise tokens.refused("precompiled_charsmap", "would change characters, which Llama 2's tokenizer never does")
    if any("\0" in piece for piece in tokens.tokens):
        raise tokens.refused("tokens", "holds a piece with a zero byte in it")
    scores = numbers(tokens, "scores", _FLOATS, len(tokens.tokens))
    if not all(map(isfinite, scores)):
        raise tokens.refused("scores", "holds a value that is not finite")
    declared = tokens.declared(adds_bos=True, bos=1, end=2)
    content = _serialize(tokens.tokens, scores, tokens.types_with(declared))
    return Vocabulary(file=tokens.file, kind="sentencepiece", content=content, declared=declared)


def _serialize(pieces: Sequence[str], scores: Numbers, kinds: Numbers) -> bytes:
    """Encode a ``ModelProto``: BPE with byte fallback, identity normalization with an added leading space."""
    message = bytearray()
    for piece, score, kind in zip(pieces, scores, kinds, strict=True):
        text = piece.encode()
        message += _nested(1, _nested(1, text) + b"\x15" + struct.pack("<f", score) + _number(3, kind))
    message += _nested(2, _number(3, _BPE) + _number(35, 1))  # model_type, byte_fallback
    # add_dummy_prefix, remove_extra_whitespaces, escape_whitespaces
    message += _nested(3, _nested(1, b"identity") + _number(3, 1) + _number(4, 0) + _number(5, 1))
    return bytes(message)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _nested(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)
