"""Digests of what a checkpoint's answers depend on: the key of its conversion, and the identity of its weights."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict

from corral.checkpoints.vocabulary import Vocabulary
from corral.engines.openvino.cache import digest_fields
from corral.engines.openvino.options import WeightsFormat
from corral.engines.openvino.tensors import Checkpoint

CONVERTER_VERSION = 5
"""Raise with every change that makes another graph or other numbers from the same checkpoint."""


def weights_content(checkpoint: Checkpoint, files_digest: str) -> Mapping[str, object]:
    """Configuration, vocabulary and weight files.

    Args:
        checkpoint: open.
        files_digest: of its files: see ``ModelCache.digest_files``.
    """
    vocabulary = checkpoint.vocabulary()
    return {
        "shape": asdict(checkpoint.shape),
        "files": files_digest,
        "vocabulary": digest_vocabulary(vocabulary) if vocabulary else None,
    }


def model_key(content: Mapping[str, object], weights: WeightsFormat) -> str:
    """Name of the converted model in the cache."""
    return digest_fields({"converter": CONVERTER_VERSION, "weights": weights.value, **content})[:32]


def weights_id(content: Mapping[str, object], weights: WeightsFormat) -> str:
    """See ``EngineInfo.weights_id``."""
    return f"{digest_fields(content)}:{weights.value}"


def digest_vocabulary(vocabulary: Vocabulary) -> str:
    """Digest of a tokenizer."""
    fields: dict[str, object] = {"kind": vocabulary.kind, "content": hashlib.sha256(vocabulary.content).hexdigest()}
    if vocabulary.kind == "tokenizer.json":  # which of its tokens are control tokens is also stated beside it
        fields["declared"] = [vocabulary.declared.bos, *vocabulary.declared.ends]
    return digest_fields(fields)
