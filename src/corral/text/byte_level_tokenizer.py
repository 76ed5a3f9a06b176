"""Tokenizer with a byte-level BPE vocabulary, using the ``tokenizers`` library.

Only pieces that text can become are given to the library, so no text encodes to a control token.
"""

import re
from collections.abc import Iterator
from typing import Final

from tokenizers import AddedToken, Regex
from tokenizers import Tokenizer as Bpe
from tokenizers.models import BPE
from tokenizers.normalizers import NFC
from tokenizers.pre_tokenizers import ByteLevel, Digits, PreTokenizer, Sequence, Split

from corral.checkpoints.tokenizers.bpe import BpeVocabulary, ByteLevelRules
from corral.checkpoints.tokenizers.splitting import Splitting
from corral.text.bpe_tokenizer import BpeTokenizer

_MOST_CHARS: Final = 2**20
"""Most characters given to the library at once. Its regular expressions fail after ten million steps in one word."""
_BORDER: Final = re.compile(r"(?s).*[^\W_](?=[ \n])")
"""Text up to the last letter or digit before a space or line break, where every splitting begins a new word."""
_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
_NFC_CHARS: Final = 4
"""Most characters that NFC joins to one."""
_PLANES: Final = {
    0xF1: (0x40000, 0x7FFFF),
    0xF2: (0x80000, 0xBFFFF),
    0xF3: (0xC0000, 0xFFFFF),
    0xF4: (0x100000, 0x10FFFF),
}
"""First and last character of those that begin with a byte."""


class ByteLevelTokenizer(BpeTokenizer):
    """A ``Tokenizer`` with a byte-level BPE vocabulary."""

    def __init__(self, vocabulary: BpeVocabulary, rules: ByteLevelRules) -> None:
        """Load a checked vocabulary.

        Args:
            vocabulary: its pieces.
            rules: its ``byte_level``.
        """
        super().__init__(vocabulary, joined_chars=_NFC_CHARS if rules.nfc else 1)
        # The cache would keep words of prompts in memory and saves little time.
        model = BPE(
            vocab=dict(vocabulary.ids),
            merges=list(vocabulary.merges),
            ignore_merges=rules.ignore_merges,
            cache_capacity=0,
        )
        self._bpe = Bpe(model)
        if rules.nfc:
            self._bpe.normalizer = NFC()
        self._bpe.pre_tokenizer = _pre_tokenizer(rules.splitting)
        self._bpe.add_tokens(
            [
                AddedToken(token.content, single_word=token.single_word, normalized=token.normalized)
                for token in vocabulary.text_tokens
            ]
        )
        self._missing = _characters_with(rules.missing)

    @property
    def adds_space(self) -> bool:
        """False."""
        return False

    def encode(self, text: str) -> list[int]:
        """Encode text without control tokens: also ``<|im_end|>`` in it is encoded as plain text.

        Characters that the vocabulary has no bytes for, such as some control characters, are replaced by U+FFFD.
        """
        if self._missing is not None:
            text = self._missing.sub(_REPLACEMENT, text)
        ids: list[int] = []
        for part in _parts(text):
            ids += self._bpe.encode(part).ids
        return ids


def _pre_tokenizer(splitting: Splitting) -> PreTokenizer:
    steps: list[PreTokenizer] = []
    if splitting.single_digits:
        steps.append(Digits(individual_digits=True))
    if splitting.pattern is not None:
        steps.append(Split(Regex(splitting.pattern), "isolated"))
    steps.append(ByteLevel(add_prefix_space=False, use_regex=splitting.pattern is None))
    return Sequence(steps)


def _parts(text: str) -> Iterator[str]:
    """Cut a long text between words. Only a million characters without a space are cut elsewhere."""
    start = 0
    while start < len(text):
        end = start + _MOST_CHARS
        if end < len(text) and (head := _BORDER.match(text, start, end)):
            end = head.end()
        yield text[start:end]
        start = end


def _characters_with(missing: frozenset[int]) -> re.Pattern[str] | None:
    """Compile a pattern of the characters whose UTF-8 has one of the bytes; None if there are none."""
    spans = [(byte, byte) for byte in missing if byte < 0x80] + [_PLANES[byte] for byte in missing if byte in _PLANES]
    if not spans:
        return None
    return re.compile("[" + "".join(f"{re.escape(chr(first))}-{re.escape(chr(last))}" for first, last in spans) + "]")
