"""Open a checkpoint of either format."""

from pathlib import Path

from corral.checkpoints.architectures.registry import read_shape
from corral.checkpoints.source import is_gguf, open_source
from corral.engines.openvino.gguf_checkpoint import GgufCheckpoint
from corral.engines.openvino.safetensors_checkpoint import SafetensorsCheckpoint
from corral.engines.openvino.tensors import Checkpoint


def open_checkpoint(path: Path) -> Checkpoint:
    """Open and check a directory in the Transformers format, or a GGUF file.

    Raises:
        CheckpointRefused: not a supported model, or one with missing, malformed or unsupported parts.
    """
    return GgufCheckpoint(path) if is_gguf(path) else SafetensorsCheckpoint(path)


def check_config(path: Path) -> None:
    """Check the configuration only.

    Raises:
        CheckpointRefused: the configuration is missing, or the model cannot be served.
    """
    read_shape(open_source(path).read_config())
