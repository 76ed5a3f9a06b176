"""Tokenizer with Llama 2's kind of BPE vocabulary from a ``tokenizer.json``, using the ``tokenizers`` library.

The normalization is the same in all of them (a leading space, spaces replaced by U+2581) and is done here, so that the
ids equal those of ``tokenizer.model``. Only pieces that text can become are given to the library, so no text encodes to
a control token.
"""

from typing import Final

from tokenizers import AddedToken
from tokenizers import Tokenizer as Bpe
from tokenizers.models import BPE

from corral.checkpoints.tokenizers.bpe import BpeVocabulary
from corral.checkpoints.tokenizers.byte_fallback import WORD_BORDER
from corral.text.bpe_tokenizer import BpeTokenizer

_SPACE: Final = " "


class HfTokenizer(BpeTokenizer):
    """A ``Tokenizer`` with the vocabulary and merges of a ``tokenizer.json`` with byte fallback."""

    def __init__(self, vocabulary: BpeVocabulary) -> None:
        """Load a checked vocabulary."""
        super().__init__(vocabulary)
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
    def adds_space(self) -> bool:
        """True."""
        return True

    def encode(self, text: str) -> list[int]:
        """Encode text without control tokens: also ``</s>`` in it is encoded as plain text."""
        if not text:
            return []
        return self._bpe.encode(WORD_BORDER + text.replace(_SPACE, WORD_BORDER)).ids
