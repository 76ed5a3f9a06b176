"""Tokenizer with Llama 2's kind of BPE vocabulary from a ``tokenizer.json``, using the ``tokenizers`` library.

The normalization is the same in all of them (a leading space, spaces replaced by U+2581) and is done here, so that the
ids equal those of ``tokenizer.model``. Only pieces that text can become are given to the library, so no text encodes to
a control token.
"""

from collections.abc import Mapping
from typing import Final

from tokenizers import AddedToken
from tokenizers import Tokenizer as Bpe
from tokenizers.models import BPE

from corral.checkpoints.tokenizers.bpe import BpeVocabulary
from corral.checkpoints.tokenizers.byte_fallback import WORD_BORDER
from corral.text.tokenizer import longest_piece_chars

_SPACE: Final = " "


class HfTokenizer:
    """A ``Tokenizer`` with the vocabulary and merges of a ``tokenizer.json`` with byte fallback."""

    def __init__(self, vocabulary: BpeVocabulary) -> None:
        """Load a checked vocabulary."""
        self._pieces = vocabulary.pieces
        self._special = vocabulary.special
        self._longest_piece_chars = longest_piece_chars(self._pieces)
        bordered = {token.content: token.content.replace(_SPACE, WORD_BORDER) for token in vocabulary.text_tokens}
        ids = {bordered.get(piece, piece): token_id for piece, token_id in vocabulary.ids.items()}
        # The cache would keep short prompts in memory and saves no time, because texts are not split into words.
        self._bpe = Bpe(BPE(vocab=ids, merges=list(vocabulary.merges), byte_fallback=True, cache_capacity=0))
        # As SentencePiece does, and unlike the library's own handling of such files, no space is added after a token.
        self._bpe.add_tokens(
            [
                AddedToken(bordered[token.content], single_word=token.single_word, normalized=False)
                for token in vocabulary.text_tokens
            ]
        )

    @property
    def vocab_size(self) -> int:
        """Size of the vocabulary."""
        return len(self._pieces)

    @property
    def control_ids(self) -> Mapping[str, int]:
        """Ids of ``<s>``, ``</s>``, ``<unk>`` and the special added tokens."""
        return self._special.ids

    @property
    def bos_token_id(self) -> int | None:
        """Id of ``<s>``, if the vocabulary wants it at the start of prompts."""
        return self._special.bos_token_id

    @property
    def end_ids(self) -> frozenset[int]:
        """Tokens that end an answer by the vocabulary's word."""
        return self._special.end_ids

    @property
    def adds_space(self) -> bool:
        """True."""
        return True

    @property
    def longest_piece_chars(self) -> int:
        """Characters of the longest piece."""
        return self._longest_piece_chars

    def encode(self, text: str) -> list[int]:
        """Encode text without control tokens: also ``</s>`` in it is encoded as plain text."""
        if not text:
            return []
        return self._bpe.encode(WORD_BORDER + text.replace(_SPACE, WORD_BORDER)).ids

    def piece_bytes(self, token_id: int) -> bytes:
        """Get the UTF-8 bytes of a token; empty for control tokens and ids outside the vocabulary."""
        return self._pieces[token_id] if 0 <= token_id < len(self._pieces) else b""
