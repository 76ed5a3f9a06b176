"""Interface of tokenizers."""

from collections.abc import Iterable, Mapping
from typing import Final, Protocol

_CONTINUATIONS: Final = bytes(range(0x80, 0xC0))
"""Bytes that begin no character of UTF-8."""


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
        """Most characters that one token stands for: a text of n characters has at least n divided by it tokens."""
        ...

    def encode(self, text: str) -> list[int]:
        """Encode text without control tokens: also ``</s>`` in it is plain text. Lone surrogates are not allowed.

        Tokens that are not control tokens may be found in text as a whole, such as ``<think>``.
        """
        ...

    def piece_bytes(self, token_id: int) -> bytes:
        """Get the UTF-8 bytes of a token with its spaces, maybe a part of a character; empty for control tokens.

        Also empty for ids of ``vocab_size`` or above: checkpoints pad their embedding, and a sampled padding id must
        not fail a stream.
        """
        ...


def longest_piece_chars(pieces: Iterable[bytes]) -> int:
    """Get the most characters that begin in one piece, given the bytes of each. At least 1."""
    return max(len(piece.translate(None, _CONTINUATIONS)) for piece in (b" ", *pieces))
