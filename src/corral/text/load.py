"""Load the tokenizer of a checkpoint."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from corral.checkpoints.source import CheckpointSource, open_source
from corral.checkpoints.tokenizers.bpe import BpeVocabulary, read_bpe
from corral.checkpoints.vocabulary import Vocabulary
from corral.checkpoints.vocabulary_choice import ChosenVocabulary, choose_vocabulary, joined_refusal
from corral.core.errors import CheckpointRefused
from corral.text.byte_level_tokenizer import ByteLevelTokenizer
from corral.text.hf_tokenizer import HfTokenizer
from corral.text.sentencepiece_tokenizer import SentencePieceTokenizer
from corral.text.tokenizer import Tokenizer

_PROBES: Final = (
    "The quick brown fox jumps over the lazy dog.",
    "  two spaces,\ttab\r\n\r\n    indented\n",
    "def f(x): return x[0] != '\\n'  # 1234567890",
    "Stra\u00dfe, \u0420\u043e\u0441\u0441\u0438\u044f, \u65e5\u672c\u8a9e, \ud55c\uad6d\uc5b4, \u0639\u0631\u0628",
    "\U0001f469\u200d\U0001f680 \u20ac 3.14 \u00bd",
)
"""Ordinary texts that two files of one vocabulary encode to the same ids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedTokenizer:
    """A tokenizer with the file that it is from."""

    tokenizer: Tokenizer
    file: str
    """Name of the file in the checkpoint."""
    warnings: Sequence[str]
    """Sentences about other files that were refused, or that encode text differently."""


def load_tokenizer(checkpoint: Path) -> Tokenizer:
    """Load the first supported tokenizer of a checkpoint; ``tokenizer.json`` is tried before ``tokenizer.model``.

    Raises:
        CheckpointRefused: there is no supported tokenizer; the message names the file, field and value.
    """
    return _load_chosen(choose_vocabulary(checkpoint))


def load_with_warnings(checkpoint: Path) -> LoadedTokenizer:
    """Load the tokenizer as ``load_tokenizer`` does, and compare it with the checkpoint's other file, if there is one.

    Raises:
        CheckpointRefused: there is no supported tokenizer; the message names the file, field and value.
    """
    chosen = choose_vocabulary(checkpoint)
    tokenizer = _load_chosen(chosen)
    file = chosen.vocabulary.file
    warnings = [f"{file} is used instead of {name}: {error}" for name, error in chosen.refused.items()]
    for other in chosen.others:
        warnings += _differences(tokenizer, file, open_source(checkpoint), other)
    return LoadedTokenizer(tokenizer=tokenizer, file=file, warnings=warnings)


def tokenizer_of(vocabulary: Vocabulary) -> Tokenizer:
    """Load a tokenizer from its document.

    Raises:
        CheckpointRefused: it is damaged or not supported; the message names the file, field and value.
    """
    return _load(vocabulary, read_bpe(vocabulary) if vocabulary.kind == "tokenizer.json" else None)


def _load_chosen(chosen: ChosenVocabulary) -> Tokenizer:
    try:
        return _load(chosen.vocabulary, chosen.bpe)
    except CheckpointRefused as error:
        raise joined_refusal({**chosen.refused, chosen.vocabulary.file: error}) from error


def _load(vocabulary: Vocabulary, bpe: BpeVocabulary | None) -> Tokenizer:
    if bpe is None:
        return SentencePieceTokenizer(vocabulary)
    if bpe.byte_level is None:
        return HfTokenizer(bpe)
    return ByteLevelTokenizer(bpe, bpe.byte_level)


def _differences(tokenizer: Tokenizer, file: str, source: CheckpointSource, other: str) -> list[str]:
    """Compare with another file of the checkpoint; one that is not supported cannot disagree."""
    try:
        second = tokenizer_of(source.read_vocabulary(other))
    except CheckpointRefused:
        return []
    for text in _PROBES:
        if tokenizer.encode(text) != second.encode(text):
            return [
                f"{file} and {other} encode {text!r} to different tokens. {file} is used; remove the one that is "
                "not the model's."
            ]
    return []
