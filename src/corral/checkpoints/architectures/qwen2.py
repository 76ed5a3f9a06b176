"""Qwen2 and Qwen2.5: https://arxiv.org/abs/2407.10671.

Queries, keys and values have biases, which no field mentions.
"""

from typing import Final

from corral.checkpoints.architectures.architecture import Architecture, GgufForm, read_dense
from corral.checkpoints.architectures.shape import ModelShape
from corral.checkpoints.architectures.windows import read_switched_window
from corral.checkpoints.config import Config


def _read(config: Config) -> ModelShape:
    return read_dense(config, "qwen2", kv_heads=32, window_tokens=read_switched_window(config), qkv_bias=True)


QWEN2: Final = Architecture(
    name="qwen2",
    class_name="Qwen2ForCausalLM",
    read=_read,
    gguf=GgufForm(name="qwen2", interleaves_heads=False, has_rope_divisors=False),
)
