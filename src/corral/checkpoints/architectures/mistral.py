"""Mistral 7B, Nemo and Small without a vision tower: https://arxiv.org/abs/2310.06825."""

from typing import Final

from corral.checkpoints.architectures.architecture import Architecture, read_dense
from corral.checkpoints.architectures.fields import check_only
from corral.checkpoints.architectures.shape import ModelShape
from corral.checkpoints.architectures.windows import read_window
from corral.checkpoints.config import Config


def _read(config: Config) -> ModelShape:
    check_only(config, "attention_bias", False)
    return read_dense(config, "mistral", kv_heads=8, window_tokens=read_window(config))


MISTRAL: Final = Architecture(name="mistral", class_name="MistralForCausalLM", read=_read, gguf=None)
"""GGUF files hold it as ``llama``."""
