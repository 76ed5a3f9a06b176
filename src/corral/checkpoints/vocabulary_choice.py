"""Choose among the vocabularies of a checkpoint. Every part of the server that reads one gets the same."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from corral.checkpoints.source import open_source
from corral.checkpoints.tokenizers.bpe import BpeVocabulary, read_bpe
from corral.checkpoints.vocabulary import Vocabulary
from corral.core.errors import CheckpointRefused


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenVocabulary:
    """The first vocabulary of a checkpoint that is supported."""

    vocabulary: Vocabulary
    bpe: BpeVocabulary | None
    """Its content, checked; None for a SentencePiece model."""
    refused: Mapping[str, CheckpointRefused]
    """Why the preferred files were not taken."""
    others: Sequence[str]
    """Files that were not tried."""


def choose_vocabulary(checkpoint: Path) -> ChosenVocabulary:
    """Read the vocabularies of a checkpoint in their order, up to the first that is supported.

    A SentencePiece model is taken as it is: the library that can check it is not used here.

    Raises:
        CheckpointRefused: there is none, or none is supported; the message names each file.
    """
    source = open_source(checkpoint)
    files = source.vocabulary_files()
    refused: dict[str, CheckpointRefused] = {}
    for index, file in enumerate(files):
        try:
            vocabulary = source.read_vocabulary(file)
            bpe = read_bpe(vocabulary) if vocabulary.kind == "tokenizer.json" else None
        except CheckpointRefused as error:
            refused[file] = error
        else:
            return ChosenVocabulary(vocabulary=vocabulary, bpe=bpe, refused=refused, others=files[index + 1 :])
    if not refused:
        raise CheckpointRefused(f"{checkpoint} holds neither tokenizer.json nor tokenizer.model.")
    raise joined_refusal(refused)


def joined_refusal(refused: Mapping[str, CheckpointRefused]) -> CheckpointRefused:
    """Join the reasons why no vocabulary was taken to one error."""
    return CheckpointRefused(" ".join(dict.fromkeys(map(str, refused.values()))))
