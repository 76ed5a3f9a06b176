"""A checkpoint's vocabulary as a serialized document."""

from dataclasses import dataclass
from typing import Literal

VocabularyKind = Literal["tokenizer.json", "sentencepiece"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """A serialized tokenizer. The content is untrusted and not checked."""

    file: str
    """Name of the file that contains it."""
    kind: VocabularyKind
    content: bytes
    """A ``tokenizer.json``, or a serialized SentencePiece model."""
