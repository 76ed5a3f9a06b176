"""Load the tokenizer of a checkpoint."""

from pathlib import Path

from corral.checkpoints.source import open_source
from corral.checkpoints.vocabulary import Vocabulary
from corral.core.errors import CheckpointRefused
from corral.text.hf_tokenizer import HfTokenizer
from corral.text.sentencepiece_tokenizer import SentencePieceTokenizer
from corral.text.tokenizer import Tokenizer


def load_tokenizer(checkpoint: Path) -> Tokenizer:
    """Load the first supported tokenizer of a checkpoint; ``tokenizer.json`` is tried before ``tokenizer.model``.

    Raises:
        CheckpointRefused: there is no supported tokenizer; the message names the file, field and value.
    """
    refusal = CheckpointRefused(f"{checkpoint} holds neither tokenizer.json nor tokenizer.model.")
    for vocabulary in open_source(checkpoint).vocabularies():
        try:
            return _load(vocabulary)
        except CheckpointRefused as error:
            refusal = error
    raise refusal


def _load(vocabulary: Vocabulary) -> Tokenizer:
    match vocabulary.kind:
        case "tokenizer.json":
            return HfTokenizer(vocabulary.content)
        case "sentencepiece":
            return SentencePieceTokenizer(vocabulary.content, file=vocabulary.file)
