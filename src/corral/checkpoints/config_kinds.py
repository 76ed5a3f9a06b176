"""Recognise checkpoints by fields of ``config.json`` whose weights are no plain floats, or no text model's.

Architectures are checked where the sizes are read; this finds what would be refused there without saying why.
"""

from collections.abc import Mapping
from typing import Final, cast

from corral.checkpoints.config import Config, as_written
from corral.core.errors import CheckpointRefused

_QUANTIZATIONS: Final = ("quantization_config", "compression_config")
_MLX: Final = "quantization"
_OTHER_INPUTS: Final = ("vision_config", "audio_config")
_INSTEAD: Final = (
    "Use the model's original repository (BF16, F16 or F32 safetensors), which `--quantize int8` or `int4` stores "
    "smaller, or a GGUF file of it"
)


def check_kind(config: Config) -> None:
    """Refuse a configuration of quantized weights, or of a model that is not for text alone.

    Raises:
        CheckpointRefused: the message names the field and its value.
    """
    for field in _QUANTIZATIONS:
        value = config.get(field)
        if isinstance(value, dict):
            raise _quantized(config, field, cast("Mapping[str, object]", value))
    mlx = config.get(_MLX)
    if isinstance(mlx, dict) and "bits" in mlx:
        raise _quantized(config, _MLX, cast("Mapping[str, object]", mlx))
    for field in _OTHER_INPUTS:
        if isinstance(config.get(field), dict):
            raise CheckpointRefused(
                f"{config.file}: {field} says that the model reads images or sound; only models of text are served. "
                "Use the text model that it was made from."
            )
    if config.get("is_encoder_decoder") is True:
        raise CheckpointRefused(
            f"{config.file}: is_encoder_decoder is true; only models with a decoder alone are served, such as Llama."
        )


def _quantized(config: Config, field: str, value: Mapping[str, object]) -> CheckpointRefused:
    method = value.get("quant_method")
    if method is None and "group_size" in value and "bits" in value:
        bits = as_written(value["bits"])
        return CheckpointRefused(
            f"{config.file}: {field} says that MLX quantized the weights to {bits} bits, which is not read. {_INSTEAD}."
        )
    return CheckpointRefused(
        f"{config.file}: {field}.quant_method is {as_written(method)}; weights quantized this way are not "
        f"read. {_INSTEAD}."
    )
