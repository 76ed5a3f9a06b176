"""A checkpoint's vocabulary as a document, whichever file it comes from."""

from dataclasses import dataclass
from typing import Literal

VocabularyKind = Literal["tokenizer.json", "sentencepiece"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """What a tokenizer is made of. The content is untrusted, and not looked at here."""

    file: str
    """Name of the file that holds it."""
    kind: VocabularyKind
    content: bytes
    """A ``tokenizer.json``, or a serialized SentencePiece model."""
