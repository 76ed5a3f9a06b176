"""Limits of requests, from a checkpoint's configuration and the options, before anything is loaded."""

from pathlib import Path

from corral.checkpoints.source import open_source
from corral.engines.base import EngineLimits
from corral.engines.openvino.memory import BLOCK_TOKENS
from corral.engines.openvino.options import OpenVinoOptions
from corral.engines.openvino.shape import read_shape


def read_limits(options: OpenVinoOptions, *, max_sequences: int) -> EngineLimits:
    """Read the configuration of the checkpoint alone.

    Args:
        options: of the worker. Without ``kv_blocks`` it sizes its cache for one whole context or more.
        max_sequences: most sequences in the worker's batch.

    Raises:
        CheckpointRefused: it is missing, or of no model that can be served.
    """
    shape = read_shape(open_source(Path(options.checkpoint)).read_config())
    context_tokens = min(options.context_tokens or shape.context_tokens, shape.context_tokens)
    cache_tokens = context_tokens if options.kv_blocks is None else options.kv_blocks * BLOCK_TOKENS
    return EngineLimits(
        vocab_size=shape.vocab_size,
        context_tokens=context_tokens,
        room_tokens=min(context_tokens, cache_tokens),
        max_sequences=max_sequences,
    )
