"""Options of the CPU engine.

Imports nothing heavy: the gateway creates them, the worker reads them.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from corral.core.errors import BadSetting
from corral.engines.base import Capabilities

OPENVINO_CAPABILITIES: Final = Capabilities(
    echo=True, logprobs=True, top_logprobs=0, constraints=True, deterministic_replay=True, prompt_logprobs=True
)


class WeightsFormat(StrEnum):
    """Storage format of matrices. int8 has a scale per row; int4 one per group of 128, with embedding and head in int8.

    Matrices that are integers in their checkpoint already keep its groups, unless bf16 or f32 is asked for.
    """

    INT8 = "int8"
    INT4 = "int4"
    BF16 = "bf16"
    F32 = "f32"


class KvPrecision(StrEnum):
    """Storage format of the KV cache."""

    U8 = "u8"
    F16 = "f16"
    F32 = "f32"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenVinoOptions:
    """Everything a worker needs to build its engine; plain values, so that it can cross a process border."""

    checkpoint: str
    """Path of a checkpoint: a directory in the Transformers format, or a GGUF file."""
    cache_dir: str
    """Converted models are kept under ``models/`` in here."""
    weights: WeightsFormat = WeightsFormat.INT8
    context_tokens: int | None = None
    """Serve less than the model's own context; None is all of it."""
    kv_blocks: int | None = None
    """Blocks of 32 tokens; None sizes the pool from the memory available at start: see ``memory.choose_blocks``."""
    kv_precision: KvPrecision | None = None
    """None is f32 while a whole context is small, else u8: see ``memory.choose_precision``."""
    max_batched_tokens: int = 512
    """Most tokens of one step: limits how long a prompt delays the other sequences."""
    checker_model: bool = False
    """Serve a tiny random model with the checkpoint's vocabulary instead, on which constraints are tried."""
    prefix_caching: bool = True
    """Reuse the keys and values of a prompt prefix that was computed before."""

    def __post_init__(self) -> None:
        for name, value, least, most in (
            ("context_tokens", self.context_tokens, 2, 2**20),
            ("kv_blocks", self.kv_blocks, 1, 2**22),
            ("max_batched_tokens", self.max_batched_tokens, 32, 2**16),
        ):
            if value is not None and not least <= value <= most:
                raise BadSetting(f"{name} is {value}; it must be in [{least}, {most}].")
