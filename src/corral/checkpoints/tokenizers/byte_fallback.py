"""The rules of Llama 2's tokenizer: spaces are written as word borders, and unknown characters as bytes."""

from collections.abc import Iterable
from typing import Final

from corral.checkpoints.config import as_written
from corral.checkpoints.tokenizers.fields import Fields

WORD_BORDER: Final = "\u2581"
"""Represents a space in pieces; encoding adds one before each text."""
BYTE_PIECES: Final = tuple(f"<0x{byte:02X}>" for byte in range(256))
"""Pieces of single bytes, for characters that are not in the vocabulary."""

_BYTES_BY_PIECE: Final = {piece: bytes([byte]) for byte, piece in enumerate(BYTE_PIECES)}
_NORMALIZERS: Final = [
    {"type": "Prepend", "prepend": WORD_BORDER},
    {"type": "Replace", "pattern": {"String": " "}, "content": WORD_BORDER},
]


def bytes_of_piece(piece: str) -> bytes:
    """Get the UTF-8 bytes of a normal or byte piece."""
    return _BYTES_BY_PIECE.get(piece) or piece.replace(WORD_BORDER, " ").encode()


def missing_byte_piece(pieces: Iterable[str]) -> str | None:
    """Get the first byte piece that is missing in *pieces*, or None. Without it some text could not be encoded."""
    present = frozenset(pieces)
    return next((piece for piece in BYTE_PIECES if piece not in present), None)


def check_text_rules(document: Fields) -> None:
    """Check that a ``tokenizer.json`` changes text by these rules only.

    They are written as a ``normalizer`` or, in files of newer versions, as a ``pre_tokenizer``.

    Raises:
        CheckpointRefused: it has other rules; the message names field and value.
    """
    pre_tokenizer, normalizer = document.member("pre_tokenizer"), document.member("normalizer")
    steps = None if normalizer is None else normalizer.get("normalizers")
    is_sequence = normalizer is not None and normalizer.get("type") == "Sequence"
    if pre_tokenizer is None:
        if not is_sequence or steps != _NORMALIZERS:
            raise document.refused(
                "normalizer",
                "without a pre_tokenizer, only the sequence Prepend, Replace that writes spaces as word borders is "
                "supported",
            )
        return
    _check_metaspace(pre_tokenizer)
    if normalizer is not None and not (is_sequence and steps == []):
        raise document.refused("normalizer", "with a Metaspace pre_tokenizer, only null is supported")


def _check_metaspace(metaspace: Fields) -> None:
    if metaspace.get("type") != "Metaspace":
        raise metaspace.refused("type", "only Metaspace, ByteLevel and sequences with ByteLevel are supported")
    if metaspace.get("replacement") != WORD_BORDER:
        raise metaspace.refused("replacement", f"only {as_written(WORD_BORDER)} is supported")
    scheme = metaspace.text("prepend_scheme")
    if scheme is None and not metaspace.flag("add_prefix_space", default=True):
        raise metaspace.refused("add_prefix_space", "only true is supported")
    if scheme not in {None, "always", "first"}:
        raise metaspace.refused("prepend_scheme", 'only "always" and "first" are supported')
    if metaspace.flag("split", default=True):
        raise metaspace.refused("split", "only false is supported")
