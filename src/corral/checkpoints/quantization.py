"""Recognise weights that were quantized by another program, from ``config.json``."""

from collections.abc import Mapping
from typing import Final, cast

from corral.checkpoints.config import Config, as_written
from corral.core.errors import CheckpointRefused

_FIELDS: Final = ("quantization_config", "compression_config")
_MLX: Final = "quantization"
_INSTEAD: Final = (
    "Use the model's original repository (BF16, F16 or F32 safetensors), which `--quantize int8` or `int4` stores "
    "smaller, or a GGUF file of it"
)


def check_unquantized(config: Config) -> None:
    """Refuse a configuration of quantized weights.

    Raises:
        CheckpointRefused: the message names the field, its value, and what to use instead.
    """
    for field in _FIELDS:
        value = config.get(field)
        if isinstance(value, dict):
            raise _quantized(config, field, cast("Mapping[str, object]", value))
    mlx = config.get(_MLX)
    if isinstance(mlx, dict) and "bits" in mlx:
        raise _quantized(config, _MLX, cast("Mapping[str, object]", mlx))


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
