"""What tokenizers with a checked BPE vocabulary have in common: its pieces and control tokens."""

from collections.abc import Mapping

from corral.checkpoints.tokenizers.bpe import BpeVocabulary
from corral.text.tokenizer import longest_piece_chars


class BpeTokenizer:
    """The part of a ``Tokenizer`` that only looks pieces up."""

    def __init__(self, vocabulary: BpeVocabulary, *, joined_chars: int = 1) -> None:
        """Keep the pieces of a checked vocabulary.

        Args:
            vocabulary: its pieces and control tokens.
            joined_chars: most characters of a text that normalization joins to one.
        """
        self._pieces = vocabulary.pieces
        self._special = vocabulary.special
        self._longest_piece_chars = longest_piece_chars(self._pieces) * joined_chars

    @property
    def vocab_size(self) -> int:
        """Size of the vocabulary."""
        return len(self._pieces)

    @property
    def control_ids(self) -> Mapping[str, int]:
        """Ids of the control tokens by their texts."""
        return self._special.ids

    @property
    def bos_token_id(self) -> int | None:
        """Token at the start of each prompt; None if the vocabulary wants none."""
        return self._special.bos_token_id

    @property
    def end_ids(self) -> frozenset[int]:
        """Tokens that end an answer by the vocabulary's word; may be empty."""
        return self._special.end_ids

    @property
    def longest_piece_chars(self) -> int:
        """Most characters that one token stands for."""
        return self._longest_piece_chars

    def piece_bytes(self, token_id: int) -> bytes:
        """Get the bytes of a token, which may be part of a character; empty for control tokens and unused ids."""
        return self._pieces[token_id] if 0 <= token_id < len(self._pieces) else b""
