"""Interface of tokenizers, and helpers for byte-fallback BPE."""

from collections.abc import Iterable, Mapping
from typing import Protocol

WORD_BORDER = "\u2581"
"""Represents a space in pieces; encoding adds one before each text."""

BYTE_PIECES = tuple(f"<0x{byte:02X}>" for byte in range(256))
"""Pieces of single bytes, for characters that are not in the vocabulary."""

_BYTES_BY_PIECE = {piece: bytes([byte]) for byte, piece in enumerate(BYTE_PIECES)}


class Tokenizer(Protocol):
    """Encodes text to token ids and decodes them. Does not add BOS or EOS."""

    @property
    def vocab_size(self) -> int:
        """Size of the vocabulary; ids are below it."""
        ...

    @property
    def control_ids(self) -> Mapping[str, int]:
        """Ids of the control tokens by their texts, such as ``</s>``; no text encodes to one."""
        ...

    @property
    def bos_token_id(self) -> int | None:
        """Token at the start of each prompt, one of ``control_ids``; None if the vocabulary wants none."""
        ...

    @property
    def end_ids(self) -> frozenset[int]:
        """Tokens that end an answer by the vocabulary's word; may be empty."""
        ...

    @property
    def adds_space(self) -> bool:
        """Whether encoding adds a space before each text, as SentencePiece does."""
        ...

    @property
    def longest_piece_chars(self) -> int:
        """Characters of the longest piece."""
        ...

    def encode(self, text: str) -> list[int]:
        """Encode text without control tokens: also ``</s>`` in it is plain text. Lone surrogates are not allowed."""
        ...

    def piece_bytes(self, token_id: int) -> bytes:
        """Get the UTF-8 bytes of a token with its spaces; one byte for byte tokens, empty for control tokens.

        Also empty for ids of ``vocab_size`` or above: checkpoints pad their embedding, and a sampled padding id must
        not fail a stream.
        """
        ...


def bytes_of_piece(piece: str) -> bytes:
    """Get the UTF-8 bytes of a normal or byte piece."""
    return _BYTES_BY_PIECE.get(piece) or piece.replace(WORD_BORDER, " ").encode()


def longest_piece_chars(pieces: Iterable[bytes]) -> int:
    """Get the number of characters of the longest piece, given the bytes of each."""
    return max(len(piece.decode(errors="replace")) for piece in pieces)


def missing_byte_piece(pieces: Iterable[str]) -> str | None:
    """Get the first byte piece that is missing in *pieces*, or None. Without it some text could not be encoded."""
    present = frozenset(pieces)
    return next((piece for piece in BYTE_PIECES if piece not in present), None)
