"""The alphabet of byte-level vocabularies: a printable character for each byte, by the rule of GPT-2."""

from collections.abc import Collection
from typing import Final

_PRINTABLE: Final = (*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100))
_OTHERS: Final = tuple(byte for byte in range(256) if byte not in _PRINTABLE)
LETTERS: Final = tuple(chr(byte if byte in _PRINTABLE else 256 + _OTHERS.index(byte)) for byte in range(256))
"""The character that stands for each byte: itself if it is printable."""
_ALPHABET: Final = frozenset(LETTERS)
_BYTES: Final = str.maketrans({letter: chr(byte) for byte, letter in enumerate(LETTERS)})
_SPARE: Final = frozenset({*range(9), 11, 12, *range(14, 32), 127, 192, 193, *range(241, 256)})
"""Bytes of control characters and of planes without characters, and those that UTF-8 never has."""


def bytes_of_letters(piece: str) -> bytes:
    """Get the bytes of a piece; a piece with other characters stands for its own text.

    Raises:
        UnicodeEncodeError: it has a lone surrogate.
    """
    return piece.translate(_BYTES).encode("latin-1") if _ALPHABET.issuperset(piece) else piece.encode()


def letters_of_bytes(text: bytes) -> str:
    """Write bytes in the alphabet."""
    return "".join(LETTERS[byte] for byte in text)


def missing_bytes(pieces: Collection[str]) -> frozenset[int]:
    """Get the bytes that have no piece, so that text with them cannot be encoded."""
    return frozenset(byte for byte, letter in enumerate(LETTERS) if letter not in pieces)


def needed_byte(missing: Collection[int]) -> int | None:
    """Get the first of the missing bytes that ordinary text has; None if text can do without all of them."""
    return min((byte for byte in missing if byte not in _SPARE), default=None)
