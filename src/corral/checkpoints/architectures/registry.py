"""All architectures, and which one a configuration is of."""

from collections.abc import Mapping
from typing import Final

from corral.checkpoints.architectures.architecture import Architecture, GgufForm
from corral.checkpoints.architectures.features import check_features
from corral.checkpoints.architectures.llama import LLAMA
from corral.checkpoints.architectures.mistral import MISTRAL
from corral.checkpoints.architectures.qwen2 import QWEN2
from corral.checkpoints.architectures.qwen3 import QWEN3
from corral.checkpoints.architectures.shape import ModelShape
from corral.checkpoints.config import Config, as_written

ARCHITECTURES: Final[Mapping[str, Architecture]] = {each.name: each for each in (LLAMA, MISTRAL, QWEN2, QWEN3)}


def read_shape(config: Config) -> ModelShape:
    """Read and check a configuration.

    Raises:
        CheckpointRefused: a field is invalid or not supported; the message contains its name and value.
    """
    check_features(config)
    return find_architecture(config).read(config)


def find_architecture(config: Config) -> Architecture:
    """Find the architecture of a configuration, by ``architectures`` and ``model_type``, which must agree.

    Raises:
        CheckpointRefused: it is not supported.
    """
    given = config.get("architectures")
    found = next((each for each in ARCHITECTURES.values() if given == [each.class_name]), None)
    if found is None:
        supported = ", ".join(each.class_name for each in ARCHITECTURES.values())
        raise config.refused("architectures", given, f"supported is one of {supported}: choose another checkpoint")
    model_type = config.get("model_type")
    if model_type != found.name:
        why = f"with {found.class_name} only {as_written(found.name)} is supported: correct it, if it was changed"
        raise config.refused("model_type", model_type, why)
    return found


def find_gguf_architecture(name: object) -> tuple[Architecture, GgufForm] | None:
    """Find the architecture that GGUF files call *name*; None if it is not supported."""
    for each in ARCHITECTURES.values():
        if each.gguf is not None and each.gguf.name == name:
            return each, each.gguf
    return None


def gguf_names() -> list[str]:
    """List the names of supported architectures in GGUF files."""
    return [each.gguf.name for each in ARCHITECTURES.values() if each.gguf is not None]
