"""Size of the KV cache, from the model's shape and the available memory."""

import os
from pathlib import Path

from corral.checkpoints.architectures.shape import ModelShape
from corral.engines.openvino.options import KvPrecision

BLOCK_TOKENS = 32
"""Tokens in one KV-cache block; fixed by GenAI on the CPU."""
_EXACT_CONTEXT_BYTES = 512 * 2**20
_MOST_CONTEXTS = 16
MOST_SHARE = 4
_U8_SCALE_BYTES = 8
"""A float32 scale and zero point: u8 keys have one per block and channel, u8 values one per token."""


def choose_precision(shape: ModelShape, context_tokens: int) -> KvPrecision:
    """Choose f32 if a whole context takes at most 512 MiB, else u8.

    Only f32 is exact: a resumed run, whose tokens are read again as a prompt, continues with the same greedy tokens,
    alone or in a batch. With u8, one in nine resumed runs of a random int8 model differed at a near tie. With f16
    none did, but one run of 64 differed between alone and in a batch.
    """
    exact_bytes = -(-context_tokens // BLOCK_TOKENS) * block_bytes(shape, KvPrecision.F32)
    return KvPrecision.F32 if exact_bytes <= _EXACT_CONTEXT_BYTES else KvPrecision.U8


def choose_blocks(shape: ModelShape, context_tokens: int, precision: KvPrecision, available: int) -> int:
    """Choose the number of blocks: 16 contexts, but at most a quarter of *available* and at least one context."""
    context_blocks = -(-context_tokens // BLOCK_TOKENS)
    affordable = available // MOST_SHARE // block_bytes(shape, precision)
    return max(context_blocks, min(_MOST_CONTEXTS * context_blocks, affordable))


def block_bytes(shape: ModelShape, precision: KvPrecision) -> int:
    """Compute the bytes of one block: keys and values of all layers."""
    width = shape.attention.head_dim
    match precision:
        case KvPrecision.U8:
            keys_bytes = width * (BLOCK_TOKENS + _U8_SCALE_BYTES)
            values_bytes = (width + _U8_SCALE_BYTES) * BLOCK_TOKENS
        case KvPrecision.F16:
            keys_bytes = values_bytes = width * BLOCK_TOKENS * 2
        case KvPrecision.F32:
            keys_bytes = values_bytes = width * BLOCK_TOKENS * 4
    return shape.layers * shape.attention.kv_heads * (keys_bytes + values_bytes)


def available_bytes() -> int:
    """Get the memory available without swapping, limited by the control group."""
    return min(_machine_bytes(), _control_group_bytes())


def _machine_bytes() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "MemAvailable":
                return int(value.split()[0]) * 1024
    except OSError:
        pass  # not Linux: assume half of the installed memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _control_group_bytes() -> int:
    """Get the memory left below ``memory.max`` (control groups version 2); unlimited if there is none."""
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text().strip()
        used = int((group / "memory.current").read_text())
    except (OSError, ValueError):
        return 2**63
    return 2**63 if limit == "max" else max(0, int(limit) - used)
