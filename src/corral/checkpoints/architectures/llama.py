"""Llama 2 and 3, TinyLlama, Vicuna, CodeLlama, SmolLM2: https://arxiv.org/abs/2307.09288."""

from typing import Final

from corral.checkpoints.architectures.architecture import Architecture, GgufForm, read_dense
from corral.checkpoints.architectures.fields import check_only, read_boolean
from corral.checkpoints.architectures.shape import ModelShape
from corral.checkpoints.architectures.windows import check_layers_are_full
from corral.checkpoints.config import Config


def _read(config: Config) -> ModelShape:
    check_only(config, "sliding_window", None)
    check_layers_are_full(config)
    has_bias = read_boolean(config, "attention_bias", default=False)
    return read_dense(config, "llama", qkv_bias=has_bias, output_bias=has_bias)


LLAMA: Final = Architecture(
    name="llama",
    class_name="LlamaForCausalLM",
    read=_read,
    gguf=GgufForm(name="llama", interleaves_heads=True, has_rope_divisors=True),
)
