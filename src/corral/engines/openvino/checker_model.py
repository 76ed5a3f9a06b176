"""A tiny random model with a checkpoint's vocabulary: what a constraint is tried on before the model itself sees it."""

import resource
from pathlib import Path

import numpy as np

from corral.checkpoints.architectures.shape import AttentionShape, ModelShape, Rope
from corral.engines.openvino.options import WeightsFormat
from corral.engines.openvino.quantize import StoredTensor, plan_tensors

MEMORY_BYTES = 4 * 2**30
"""More data than this, and the process is out of memory instead of the machine."""
CONTEXT_TOKENS = 512


def checker_shape(shape: ModelShape) -> ModelShape:
    """One small layer over the same vocabulary."""
    return ModelShape(
        architecture="llama",
        hidden_size=32,
        intermediate_size=32,
        layers=1,
        attention=AttentionShape(heads=2, kv_heads=2, head_dim=16, rope=Rope(theta=1e4)),
        vocab_size=shape.vocab_size,
        position_tokens=CONTEXT_TOKENS,
        rms_norm_eps=1e-5,
        tied_embeddings=True,
    )


def plan_checker_model(shape: ModelShape) -> list[StoredTensor]:
    """Where its weights lie in their file."""
    return plan_tensors(shape, WeightsFormat.F32)


def write_checker_model(plan: list[StoredTensor], blob: Path) -> None:
    """Random weights, always the same; an almost flat distribution tries every corner of a grammar."""
    numbers = np.random.default_rng(0).standard_normal(plan[-1].end // 4, dtype=np.float32)
    (0.1 * numbers).tofile(blob)


def limit_memory() -> None:
    """Let this process fail alone when a grammar outgrows all measure."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(MEMORY_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
