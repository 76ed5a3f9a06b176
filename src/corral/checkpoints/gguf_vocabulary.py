"""Rebuild a SentencePiece model from the vocabulary in a GGUF file.

A GGUF file contains the pieces, scores and types of the original ``tokenizer.model``. SentencePiece loads the rebuilt
model, so that text encodes to the same ids. The message format is
https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto, encoded as in
https://protobuf.dev/programming-guides/encoding/.
"""

import struct
from array import array
from collections.abc import Mapping
from math import isfinite
from typing import Final

from corral.checkpoints.gguf import GgufFile
from corral.checkpoints.gguf_values import Numbers, Value
from corral.checkpoints.vocabulary import Vocabulary
from corral.core.errors import CheckpointRefused

_PREFIX: Final = "tokenizer.ggml."
_MOST_PIECES: Final = 2**20
_CONTROL: Final = 3
_KINDS: Final = range(1, 7)
"""Normal, unknown, control, user-defined, unused, byte: the same numbers in both formats."""
_EXPECTED: Final = {
    "model": "llama",
    "add_space_prefix": True,
    "remove_extra_whitespaces": False,
    "escape_whitespaces": True,
}
"""Values of Llama 2's tokenizer. Only the first is required."""
_BPE: Final = 2
_FLOATS: Final = "f"
_INTEGERS: Final = "bBhHiIqQ"


def gguf_vocabulary(file: GgufFile) -> Vocabulary:
    """Convert the file's vocabulary to a SentencePiece model.

    Raises:
        CheckpointRefused: it is missing or not supported; the message names the key and its value.
    """
    metadata = {key.removeprefix(_PREFIX): v for key, v in file.metadata.items() if key.startswith(_PREFIX)}
    for field, expected in _EXPECTED.items():
        value = metadata.get(field, None if field == "model" else expected)
        if isinstance(value, list | array) or value != expected:
            raise _refused(file, field, f"is {value!r:.100}; only {expected!r} is supported")
    if "precompiled_charsmap" in metadata:
        raise _refused(file, "precompiled_charsmap", "would change characters, which Llama 2's tokenizer never does")
    pieces = metadata.get("tokens")
    if not isinstance(pieces, list) or not 0 < len(pieces) <= _MOST_PIECES:
        raise _refused(file, "tokens", f"is no list of 1 to {_MOST_PIECES} strings")
    if any("\0" in piece for piece in pieces):
        raise _refused(file, "tokens", "holds a piece with a zero byte in it")
    scores = _numbers(file, "scores", metadata, _FLOATS, len(pieces))
    kinds = _numbers(file, "token_type", metadata, _INTEGERS, len(pieces))
    if not all(map(isfinite, scores)):
        raise _refused(file, "scores", "holds a value that is not finite")
    if not set(kinds).issubset(_KINDS):
        raise _refused(file, "token_type", f"holds a value outside [{_KINDS[0]}, {_KINDS[-1]}]")
    _check_ends(file, metadata, kinds)
    return Vocabulary(file=file.path.name, kind="sentencepiece", content=_serialize(pieces, scores, kinds))


def _numbers(file: GgufFile, field: str, metadata: Mapping[str, Value], types: str, count: int) -> Numbers:
    values = metadata.get(field)
    if not isinstance(values, array) or values.typecode not in types or len(values) != count:
        raise _refused(file, field, f"is no array of {count} numbers, one for each of the tokens")
    return values


def _check_ends(file: GgufFile, metadata: Mapping[str, Value], kinds: Numbers) -> None:
    """Check that BOS and EOS are control pieces, so that no text encodes to them."""
    for field, default in (("bos_token_id", 1), ("eos_token_id", 2)):
        value = metadata.get(field, default)
        if type(value) is not int or not 0 <= value < len(kinds) or kinds[value] != _CONTROL:
            raise _refused(file, field, f"is {value!r:.100}, which is no control token")


def _serialize(pieces: list[str], scores: Numbers, kinds: Numbers) -> bytes:
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


def _refused(file: GgufFile, field: str, what: str) -> CheckpointRefused:
    return CheckpointRefused(f"{file.path.name}: {_PREFIX}{field} {what}.")
