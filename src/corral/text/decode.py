"""Token ids to text while they arrive. Must not know of stop strings, engines or HTTP."""

import codecs
from collections.abc import Iterable

from corral.text.tokenizer import Tokenizer


class IncrementalDecoder:
    """Turns ids into text and never splits a character.

    The parts together equal the whole answer decoded at once. Bytes that are no UTF-8 become U+FFFD. The space that
    begins a Llama-2 answer is kept.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, ids: Iterable[int]) -> str:
        """Text that is certain after these ids; may be empty while a character is unfinished."""
        return self._decoder.decode(b"".join(map(self._tokenizer.piece_bytes, ids)))

    def flush(self) -> str:
        """What an unfinished character at the end leaves: U+FFFD, or nothing."""
        return self._decoder.decode(b"", final=True)
