"""Refuse features that no supported architecture has, by the field of the configuration that asks for them.

A model that is computed slightly wrong gives plausible wrong answers. These fields are looked at before the
architecture's name, because they say more than it.
"""

from dataclasses import dataclass
from typing import Final

from corral.checkpoints.architectures.fields import check_only
from corral.checkpoints.config import Config, as_list

_DENSE: Final = "choose a dense model, whose layers have one feed-forward part each"
_TEXT: Final = "choose the text-only model of the family"
_ROTATED: Final = "choose a model that rotates in every layer, such as SmolLM2 instead of SmolLM3"


@dataclass(frozen=True, slots=True)
class _Feature:
    field: str
    what: str
    remedy: str


_FEATURES: Final = (
    _Feature("vision_config", "models with a vision tower are not supported", _TEXT),
    _Feature("audio_config", "models of sound are not supported", _TEXT),
    _Feature("text_config", "models of more than text are not supported", _TEXT),
    _Feature("num_local_experts", "mixtures of experts are not supported", _DENSE),
    _Feature("num_experts", "mixtures of experts are not supported", _DENSE),
    _Feature("n_routed_experts", "mixtures of experts are not supported", _DENSE),
    _Feature("moe_intermediate_size", "mixtures of experts are not supported", _DENSE),
    _Feature(
        "quantization_config",
        "weights in this format are not read",
        "take the original checkpoint and choose its storage with --quantize, or a GGUF file",
    ),
)
_UNUSED: Final = (None, 0, False)


def check_features(config: Config) -> None:
    """Refuse a configuration that asks for something that is not computed.

    Raises:
        CheckpointRefused: it does; the message contains the field, its value, and what to do.
    """
    for feature in _FEATURES:
        value = config.get(feature.field)
        if value not in _UNUSED:
            raise config.refused(feature.field, value, f"{feature.what}: {feature.remedy}")
    rotated = config.get("no_rope_layers")
    if rotated is not None and any(layer != 1 for layer in as_list(rotated) or [None]):
        why = f"layers without rotary positions are not supported: {_ROTATED}"
        raise config.refused("no_rope_layers", rotated, why)
    check_only(config, "no_rope_layer_interval", None, _ROTATED)
    check_only(config, "hidden_act", "silu")
    check_only(config, "mlp_bias", False)
    check_only(config, "partial_rotary_factor", 1.0)
