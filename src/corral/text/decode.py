"""Incremental detokenization: token ids to text while they arrive."""

import codecs
from collections.abc import Iterable

from corral.text.tokenizer import Tokenizer


class IncrementalDecoder:
    """Decodes token ids to text without splitting a UTF-8 character.

    The joined parts equal the decoded whole answer. Invalid UTF-8 becomes U+FFFD. The leading space of a Llama 2 answer
    is kept.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, ids: Iterable[int]) -> str:
        """Decode more ids; return the complete characters. May be empty while a character is incomplete."""
        return self._decoder.decode(b"".join(map(self._tokenizer.piece_bytes, ids)))

    def flush(self) -> str:
        """End the text: return U+FFFD for an incomplete character, or an empty text."""
        return self._decoder.decode(b"", final=True)
