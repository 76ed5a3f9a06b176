"""Tokenizers from documents that a test has at hand."""

import json
from typing import Any

from corral.checkpoints.vocabulary import Declared, Vocabulary
from corral.text.load import tokenizer_of
from corral.text.tokenizer import Tokenizer


def from_json(document: bytes | dict[str, Any], declared: Declared | None = None) -> Tokenizer:
    """Load a ``tokenizer.json``, with what ``tokenizer_config.json`` states beside it."""
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    return tokenizer_of(
        Vocabulary(file="tokenizer.json", kind="tokenizer.json", content=content, declared=declared or Declared())
    )


def from_sentencepiece(model: bytes, declared: Declared | None = None) -> Tokenizer:
    """Load a ``tokenizer.model``."""
    return tokenizer_of(
        Vocabulary(file="tokenizer.model", kind="sentencepiece", content=model, declared=declared or Declared())
    )
