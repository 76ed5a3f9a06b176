"""What a load will take and give, from a checkpoint's files alone: for the gateway, which loads nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from corral.checkpoints.gguf_names import part_paths
from corral.core.errors import CheckpointRefused
from corral.engines.openvino.cache import ModelCache
from corral.engines.openvino.checkpoint import open_checkpoint
from corral.engines.openvino.content import model_key, weights_content, weights_id
from corral.engines.openvino.options import OpenVinoOptions
from corral.engines.openvino.quantize import StoredTensor, plan_tensors

WORKER_BYTES = 192 * 2**20
"""A worker without weights and KV cache: 140 MiB were measured, most of them OpenVINO's code."""
CHECKER_BYTES = 192 * 2**20
"""The process that tries constraints, likewise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What is known of a load before it."""

    weights_bytes: int
    """Of the weights as they are stored after conversion."""
    conversion_bytes: int
    """Peak of the conversion; 0 if it was done."""
    weights_id: str | None
    """See ``EngineInfo.weights_id``; None while the weights were never read."""


def look_ahead(options: OpenVinoOptions) -> Outlook:
    """Look at the checkpoint's headers and at what the cache remembers. A broken checkpoint is left to its load."""
    path = Path(options.checkpoint)
    try:
        with open_checkpoint(path) as checkpoint:
            plan = plan_tensors(checkpoint.shape, options.weights, checkpoint.held)
            cache = ModelCache(Path(options.cache_dir))
            digest = cache.recall_files(checkpoint.files)
            content = None if digest is None else weights_content(checkpoint, digest)
    except (CheckpointRefused, OSError):
        return Outlook(weights_bytes=_size_bytes(path), conversion_bytes=0, weights_id=None)
    is_converted = content is not None and cache.has(model_key(content, options.weights))
    return Outlook(
        weights_bytes=plan[-1].end,
        conversion_bytes=0 if is_converted else conversion_bytes(plan),
        weights_id=None if content is None else weights_id(content, options.weights),
    )


def conversion_bytes(plan: Sequence[StoredTensor]) -> int:
    """Compute the peak memory of a conversion: the written weights, and the largest tensor twice as float32."""
    return plan[-1].end + 8 * max(tensor.rows * tensor.columns for tensor in plan)


def _size_bytes(path: Path) -> int:
    files = part_paths(path) if path.is_file() else path.glob("*")
    return sum(file.stat().st_size for file in files if file.is_file())
