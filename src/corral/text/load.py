"""Finds the tokenizer of a checkpoint directory. Must not know of prompts or engines."""

from pathlib import Path

from corral.core.errors import CheckpointRefused
from corral.text.hf_tokenizer import HfTokenizer
from corral.text.sentencepiece_tokenizer import SentencePieceTokenizer
from corral.text.tokenizer import Tokenizer

_MAX_FILE_BYTES = 64 * 1024 * 1024


def load_tokenizer(directory: Path) -> Tokenizer:
    """The tokenizer of a checkpoint: ``tokenizer.json`` when it is Llama-2 style, else ``tokenizer.model``.

    Raises:
        CheckpointRefused: neither file is there, or neither can be served; names the file, field and value.
    """
    document, model = directory / "tokenizer.json", directory / "tokenizer.model"
    if not document.is_file():
        if not model.is_file():
            raise CheckpointRefused(f"{directory} holds neither tokenizer.json nor tokenizer.model.")
        return SentencePieceTokenizer(_read(model))
    try:
        return HfTokenizer(_read(document))
    except CheckpointRefused:
        if not model.is_file():
            raise
        return SentencePieceTokenizer(_read(model))


def _read(path: Path) -> bytes:
    size_bytes = path.stat().st_size
    if size_bytes > _MAX_FILE_BYTES:
        raise CheckpointRefused(f"{path.name} has {size_bytes} bytes; at most {_MAX_FILE_BYTES} are read.")
    return path.read_bytes()
