"""Limits of requests, from a checkpoint's configuration and the options, before anything is loaded."""

from dataclasses import replace
from pathlib import Path

from corral.checkpoints.architectures.registry import read_shape
from corral.checkpoints.architectures.shape import ModelShape
from corral.checkpoints.source import open_source
from corral.engines.base import EngineLimits
from corral.engines.openvino.memory import BLOCK_TOKENS, MOST_SHARE, block_bytes, choose_blocks, choose_precision
from corral.engines.openvino.options import OpenVinoOptions


def read_limits(options: OpenVinoOptions, *, max_sequences: int) -> EngineLimits:
    """Read the configuration of the checkpoint alone.

    Args:
        options: of the worker. Without ``kv_blocks`` it sizes its cache for one whole context or more.
        max_sequences: most sequences in the worker's batch.

    Raises:
        CheckpointRefused: it is missing, or of no model that can be served.
    """
    shape, context_tokens = _read(options)
    cache_tokens = context_tokens if options.kv_blocks is None else options.kv_blocks * BLOCK_TOKENS
    return EngineLimits(
        vocab_size=shape.vocab_size,
        context_tokens=context_tokens,
        room_tokens=min(context_tokens, cache_tokens),
        max_sequences=max_sequences,
    )


def settle_cache(options: OpenVinoOptions, *, cache_bytes: int) -> OpenVinoOptions:
    """Decide precision and size of the KV cache: at least one whole context, unless the options say otherwise.

    Args:
        options: of the worker.
        cache_bytes: most bytes of a cache that holds more than one context.

    Raises:
        CheckpointRefused: as ``read_limits``.
    """
    shape, context_tokens = _read(options)
    precision = options.kv_precision or choose_precision(shape, context_tokens)
    blocks = options.kv_blocks or choose_blocks(shape, context_tokens, precision, MOST_SHARE * cache_bytes)
    return replace(options, kv_precision=precision, kv_blocks=blocks)


def cache_size_bytes(options: OpenVinoOptions) -> int:
    """Size of a KV cache that ``settle_cache`` decided."""
    shape, _ = _read(options)
    if options.kv_blocks is None or options.kv_precision is None:
        raise ValueError("the KV cache is not settled")
    return options.kv_blocks * block_bytes(shape, options.kv_precision)


def _read(options: OpenVinoOptions) -> tuple[ModelShape, int]:
    """Returns sizes of the model, and the tokens of its context."""
    shape = read_shape(open_source(Path(options.checkpoint)).read_config())
    return shape, min(options.context_tokens or shape.context_tokens, shape.context_tokens)
