"""Tokenizers of Llama-2 checkpoints, behind the four questions the rest of Corral asks."""

from collections.abc import Iterable
from typing import Protocol

WORD_BORDER = "\u2581"
"""Stands for a space inside pieces; encoding puts one in front of every text."""

BYTE_PIECES = tuple(f"<0x{byte:02X}>" for byte in range(256))
"""Pieces of one byte each, for characters that the vocabulary lacks."""

_BYTES_BY_PIECE = {piece: bytes([byte]) for byte, piece in enumerate(BYTE_PIECES)}


class Tokenizer(Protocol):
    """A Llama-2-style byte-fallback BPE tokenizer. Never adds BOS or EOS by itself."""

    @property
    def vocab_size(self) -> int:
        """Ids are in [0, vocab_size)."""
        ...

    @property
    def bos_token_id(self) -> int:
        """Id of ``<s>``."""
        ...

    @property
    def eos_token_id(self) -> int:
        """Id of ``</s>``."""
        ...

    @property
    def longest_piece_chars(self) -> int:
        """Most characters of a text that one id can stand for."""
        ...

    def encode(self, text: str) -> list[int]:
        """Ids of text as data: no text, ``</s>`` included, becomes a control token. Not for lone surrogates."""
        ...

    def piece_bytes(self, token_id: int) -> bytes:
        """UTF-8 bytes that an id stands for, spaces included; a lone byte for byte tokens, nothing for control tokens.

        An id at or above ``vocab_size`` stands for nothing too: checkpoints pad their embedding, and a padding row
        that a model chose must not end a stream.
        """
        ...


def bytes_of_piece(piece: str) -> bytes:
    """UTF-8 bytes that an ordinary or byte piece stands for."""
    return _BYTES_BY_PIECE.get(piece) or piece.replace(WORD_BORDER, " ").encode()


def longest_piece_chars(pieces: Iterable[bytes]) -> int:
    """Most characters of any piece, given what each stands for."""
    return max(len(piece.decode(errors="replace")) for piece in pieces)


def missing_byte_piece(pieces: Iterable[str]) -> str | None:
    """The first byte piece that *pieces* lacks: without it some text could not be encoded."""
    present = frozenset(pieces)
    return next((piece for piece in BYTE_PIECES if piece not in present), None)
