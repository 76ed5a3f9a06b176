"""Sizes and constants of a Llama model, read from a checkpoint's configuration.

Fields that change the computation and are not implemented are refused by name and value, because a model that is
computed slightly wrong gives plausible wrong answers.
"""

from dataclasses import dataclass, replace
from typing import cast

from corral.checkpoints.config import Config, as_written

_MOST_HIDDEN = 2**16
_MOST_INTERMEDIATE = 2**18
_MOST_LAYERS = 1024
_MOST_HEADS = 1024
_MOST_VOCAB = 2**20
_MOST_CONTEXT_TOKENS = 2**20

_FIXED: tuple[tuple[str, object, object], ...] = (
    ("hidden_act", "silu", "silu"),
    ("rope_scaling", None, None),
    ("attention_bias", False, False),
    ("mlp_bias", False, False),
    ("partial_rotary_factor", 1.0, 1.0),
    ("quantization_config", None, None),
    ("sliding_window", None, None),
)
"""Field, its default, and the only supported value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaShape:
    """Sizes and constants of a Llama model."""

    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab_size: int
    context_tokens: int
    rope_theta: float
    rms_norm_eps: float
    tied_embeddings: bool

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """List the model's tensors by their Transformers names, with shapes ``(out, in)`` or ``(width,)``."""
        hidden, kv_width = self.hidden_size, self.kv_heads * self.head_dim
        wanted: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (self.vocab_size, hidden)}
        for layer in range(self.layers):
            prefix = f"model.layers.{layer}."
            wanted |= {
                prefix + "input_layernorm.weight": (hidden,),
                prefix + "self_attn.q_proj.weight": (hidden, hidden),
                prefix + "self_attn.k_proj.weight": (kv_width, hidden),
                prefix + "self_attn.v_proj.weight": (kv_width, hidden),
                prefix + "self_attn.o_proj.weight": (hidden, hidden),
                prefix + "post_attention_layernorm.weight": (hidden,),
                prefix + "mlp.gate_proj.weight": (self.intermediate_size, hidden),
                prefix + "mlp.up_proj.weight": (self.intermediate_size, hidden),
                prefix + "mlp.down_proj.weight": (hidden, self.intermediate_size),
            }
        wanted["model.norm.weight"] = (hidden,)
        if not self.tied_embeddings:
            wanted["lm_head.weight"] = (self.vocab_size, hidden)
        return wanted


def read_shape(config: Config) -> LlamaShape:
    """Read and check a configuration.

    Raises:
        CheckpointRefused: a field is invalid or not supported; the message contains its name and value.
    """
    _check_architecture(config)
    for name, default, only in _FIXED:
        value = config.get(name, default)
        if value != only or isinstance(value, bool) != isinstance(only, bool):
            raise config.refused(name, value, f"only {as_written(only)} is supported")
    hidden = _integer(config, "hidden_size", _MOST_HIDDEN)
    heads = _integer(config, "num_attention_heads", _MOST_HEADS)
    kv_heads = _integer(config, "num_key_value_heads", _MOST_HEADS, default=heads)
    if hidden % heads:
        raise config.refused("num_attention_heads", heads, f"it must divide hidden_size, {hidden}")
    if heads % kv_heads:
        raise config.refused("num_key_value_heads", kv_heads, f"it must divide num_attention_heads, {heads}")
    head_dim = _integer(config, "head_dim", _MOST_HIDDEN, default=hidden // heads)
    if head_dim != hidden // heads:
        raise config.refused("head_dim", head_dim, f"hidden_size / num_attention_heads is {hidden // heads}")
    if head_dim % 2:
        why = f"it gives heads a width of {head_dim}, and rotary embeddings need an even one"
        raise config.refused("num_attention_heads", heads, why)
    vocab_size = _integer(config, "vocab_size", _MOST_VOCAB)
    return LlamaShape(
        hidden_size=hidden,
        intermediate_size=_integer(config, "intermediate_size", _MOST_INTERMEDIATE),
        layers=_integer(config, "num_hidden_layers", _MOST_LAYERS),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        vocab_size=vocab_size,
        context_tokens=_integer(config, "max_position_embeddings", _MOST_CONTEXT_TOKENS, least=2),
        rope_theta=_rope_theta(config),
        rms_norm_eps=_number(config, "rms_norm_eps", default=1e-6, least=0.0, most=0.1),
        tied_embeddings=_boolean(config, "tie_word_embeddings", default=False),
    )


def _check_architecture(config: Config) -> None:
    architectures = config.get("architectures")
    if architectures != ["LlamaForCausalLM"]:
        raise config.refused("architectures", architectures, 'only ["LlamaForCausalLM"] is supported')
    model_type = config.get("model_type")
    if model_type != "llama":
        raise config.refused("model_type", model_type, 'only "llama" is supported')


def _rope_theta(config: Config) -> float:
    """Read ``rope_theta``, which newer versions of Transformers store in ``rope_parameters``."""
    nested = config.get("rope_parameters")
    if nested is None:
        return _number(config, "rope_theta", default=10_000.0, least=1.0, most=1e12)
    if not isinstance(nested, dict):
        raise config.refused("rope_parameters", nested, "it must be an object")
    parameters = cast("dict[str, object]", nested)
    kind = parameters.get("rope_type", "default")
    if kind != "default" or not parameters.keys() <= {"rope_type", "rope_theta"}:
        raise config.refused("rope_parameters", parameters, 'only rope_type "default" is supported')
    return _number(replace(config, values=parameters), "rope_theta", default=10_000.0, least=1.0, most=1e12)


def _integer(config: Config, name: str, most: int, *, default: int | None = None, least: int = 1) -> int:
    value = config.get(name)
    if value is None and default is not None:
        value = default
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise config.refused(name, value, f"it must be an integer in [{least}, {most}]")
    return value


def _number(config: Config, name: str, *, default: float, least: float, most: float) -> float:
    value = config.get(name, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not least < value <= most:
        raise config.refused(name, value, f"it must be a number in ({least:g}, {most:g}]")
    return float(value)


def _boolean(config: Config, name: str, *, default: bool) -> bool:
    value = config.get(name, default)
    if not isinstance(value, bool):
        raise config.refused(name, value, "it must be true or false")
    return value
