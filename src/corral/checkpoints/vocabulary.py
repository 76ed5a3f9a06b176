"""A checkpoint's vocabulary as a serialized document."""

from dataclasses import dataclass, field
from typing import Literal

VocabularyKind = Literal["tokenizer.json", "sentencepiece"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """BOS and end tokens, as a checkpoint states them beside its vocabulary: as texts or ids, which are not checked."""

    file: str = ""
    """Name of the file that states them."""
    adds_bos: bool | None = None
    """Whether BOS leads a prompt; None if it is not stated."""
    bos: str | int | None = None
    ends: tuple[str | int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """A serialized tokenizer. The content is untrusted and not checked."""

    file: str
    """Name of the file that contains it."""
    kind: VocabularyKind
    content: bytes
    """A ``tokenizer.json``, or a serialized SentencePiece model."""
    declared: Declared = field(default_factory=Declared)
