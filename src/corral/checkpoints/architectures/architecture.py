"""What an architecture is, and how one that differs from the others by switches is read."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from corral.checkpoints.architectures.fields import read_boolean, read_integer, read_number
from corral.checkpoints.architectures.rope import read_rope
from corral.checkpoints.architectures.shape import AttentionShape, ModelShape
from corral.checkpoints.config import Config

_MOST_HIDDEN: Final = 2**16
_MOST_INTERMEDIATE: Final = 2**18
_MOST_LAYERS: Final = 1024
_MOST_HEADS: Final = 1024
_MOST_HEAD_DIM: Final = 4096
_MOST_VOCAB: Final = 2**20
_MOST_CONTEXT_TOKENS: Final = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufForm:
    """How llama.cpp's converter writes an architecture."""

    name: str
    """Value of ``general.architecture``, and the beginning of the keys of its sizes."""
    interleaves_heads: bool
    """The two rows of queries and keys that rotate together are adjacent, not half a head apart."""
    has_rope_divisors: bool
    """A tensor ``rope_freqs.weight`` may divide the frequencies of the rotation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A model architecture: how its configuration is recognized and read."""

    name: str
    """Also ``model_type`` in ``config.json``."""
    class_name: str
    """The one entry of ``architectures`` in ``config.json``."""
    read: Callable[[Config], ModelShape]
    """Reads a configuration of this architecture; raises ``CheckpointRefused``."""
    gguf: GgufForm | None
    """None: GGUF files hold it under the name of another architecture, which is equal."""


def read_dense(
    config: Config,
    name: str,
    *,
    kv_heads: int | None = None,
    head_dim: int | None = None,
    window_tokens: int | None = None,
    qkv_bias: bool = False,
    output_bias: bool = False,
    qk_norm: bool = False,
) -> ModelShape:
    """Read the sizes that all architectures share.

    Args:
        config: the checkpoint's.
        name: of the architecture.
        kv_heads: what a missing ``num_key_value_heads`` means; None: as many as there are heads, as null always means.
        head_dim: what a missing ``head_dim`` means; None: ``hidden_size / num_attention_heads``, as null always means.
        window_tokens: see ``ModelShape``.
        qkv_bias: see ``AttentionShape``, as for the next two.
        output_bias: adds a bias.
        qk_norm: adds norms.
    """
    hidden = read_integer(config, "hidden_size", _MOST_HIDDEN)
    heads = read_integer(config, "num_attention_heads", _MOST_HEADS)
    width = _head_dim(config, hidden=hidden, heads=heads, missing=head_dim)
    return ModelShape(
        architecture=name,
        hidden_size=hidden,
        intermediate_size=read_integer(config, "intermediate_size", _MOST_INTERMEDIATE),
        layers=read_integer(config, "num_hidden_layers", _MOST_LAYERS),
        attention=AttentionShape(
            heads=heads,
            kv_heads=_kv_heads(config, heads=heads, missing=kv_heads),
            head_dim=width,
            rope=read_rope(config, width),
            qkv_bias=qkv_bias,
            output_bias=output_bias,
            qk_norm=qk_norm,
        ),
        vocab_size=read_integer(config, "vocab_size", _MOST_VOCAB),
        position_tokens=read_integer(config, "max_position_embeddings", _MOST_CONTEXT_TOKENS, least=2),
        window_tokens=window_tokens,
        rms_norm_eps=read_number(config, "rms_norm_eps", default=1e-6, least=0.0, most=0.1),
        tied_embeddings=read_boolean(config, "tie_word_embeddings", default=False),
    )


def _kv_heads(config: Config, *, heads: int, missing: int | None) -> int:
    name = "num_key_value_heads"
    default = missing if missing is not None and name not in config.values else heads
    kv_heads = read_integer(config, name, _MOST_HEADS, default=default)
    if heads % kv_heads:
        raise config.refused(name, config.get(name), f"{kv_heads} must divide num_attention_heads, {heads}")
    return kv_heads


def _head_dim(config: Config, *, hidden: int, heads: int, missing: int | None) -> int:
    if config.get("head_dim") is not None:
        width = read_integer(config, "head_dim", _MOST_HEAD_DIM)
        if width % 2:
            raise config.refused("head_dim", width, "rotary positions need an even one")
        return width
    if missing is not None and "head_dim" not in config.values:
        return missing
    if hidden % heads or hidden // heads % 2 or hidden // heads > _MOST_HEAD_DIM:
        why = f"hidden_size / num_attention_heads, {hidden} / {heads}, must be even and at most {_MOST_HEAD_DIM}"
        raise config.refused("num_attention_heads", heads, why)
    return hidden // heads
