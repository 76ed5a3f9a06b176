"""Facts about the model that a checkpoint describes, as far as its configuration can be read."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from corral.checkpoints.architectures.shape import ModelShape
from corral.checkpoints.config import as_list
from corral.checkpoints.directory import CONFIG
from corral.checkpoints.gguf_part import GgufPart
from corral.checkpoints.source import is_gguf, read_json
from corral.core.errors import CheckpointRefused
from corral.inspection.report import ModelFacts
from corral.inspection.weights import TensorTables


def describe_model(path: Path, shape: ModelShape | None, tables: TensorTables | None) -> ModelFacts | None:
    """Describe the model: by its sizes if they are supported, else by what the configuration says of it.

    Args:
        path: of the checkpoint.
        shape: sizes of the model; None if its configuration is refused.
        tables: headers of its files; None if they are refused.
    """
    try:
        described = _gguf_model(GgufPart(path)) if is_gguf(path) else _directory_model(read_json(path / CONFIG))
    except CheckpointRefused:  # reading the configuration for serving has said why
        return None
    if shape is None:
        return replace(described, parameters=None if tables is None else tables.elements)
    return replace(
        described, parameters=shape.parameters, context_tokens=shape.context_tokens, vocab_size=shape.vocab_size
    )


def _directory_model(values: Mapping[str, object]) -> ModelFacts:
    """Read what ``config.json`` says, whether it is supported or not."""
    named = as_list(values.get("architectures")) or [values.get("model_type")]
    return ModelFacts(
        architecture=_text(named[0]),
        parameters=None,
        context_tokens=_count(values.get("max_position_embeddings")),
        vocab_size=_count(values.get("vocab_size")),
    )


def _gguf_model(file: GgufPart) -> ModelFacts:
    """Read what the metadata of a GGUF file or of its first part says, whether it is supported or not."""
    with file:
        metadata = file.metadata
    architecture = _text(metadata.get("general.architecture"))
    pieces = metadata.get("tokenizer.ggml.tokens")
    rows = metadata.get(f"{architecture}.vocab_size", len(pieces) if isinstance(pieces, list) else None)
    return ModelFacts(
        architecture=architecture,
        parameters=None,
        context_tokens=_count(metadata.get(f"{architecture}.context_length")),
        vocab_size=_count(rows),
    )


def _text(value: object) -> str | None:
    return value[:100] if isinstance(value, str) else None


def _count(value: object) -> int | None:
    return value if type(value) is int and value > 0 else None
