"""Qwen3, the dense models: https://arxiv.org/abs/2505.09388.

Each head of queries and keys has a norm before it rotates.
"""

from typing import Final

from corral.checkpoints.architectures.architecture import Architecture, GgufForm, read_dense
from corral.checkpoints.architectures.fields import read_boolean
from corral.checkpoints.architectures.shape import ModelShape
from corral.checkpoints.architectures.windows import read_switched_window
from corral.checkpoints.config import Config


def _read(config: Config) -> ModelShape:
    has_bias = read_boolean(config, "attention_bias", default=False)
    return read_dense(
        config,
        "qwen3",
        kv_heads=32,
        head_dim=128,
        window_tokens=read_switched_window(config),
        qkv_bias=has_bias,
        output_bias=has_bias,
        qk_norm=True,
    )


QWEN3: Final = Architecture(
    name="qwen3",
    class_name="Qwen3ForCausalLM",
    read=_read,
    gguf=GgufForm(name="qwen3", interleaves_heads=False, has_rope_divisors=False),
)
