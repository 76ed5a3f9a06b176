"""Model versions: a digest of the served weights, and public ids as aliases of it."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from corral.checkpoints.gguf_names import part_paths
from corral.core.errors import CheckpointRefused

_SHORT_DIGITS: Final = 40
"""As many as a Git commit id has."""
_SAMPLE_BYTES: Final = 64 * 2**10
_WEIGHT_FILES: Final = ("*.json", "*.safetensors", "*.gguf", "tokenizer.model")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """A version id that requests can use; the current weights answer for every one."""

    id: str
    """64 hex digits, or 40 where the public id is a Git commit."""
    created_at_s: int
    """Unix time in seconds."""

    @property
    def short_id(self) -> str:
        """The first 40 digits, for APIs whose versions are commits."""
        return self.id[:_SHORT_DIGITS]

    def answers_to(self, version: str) -> bool:
        """Whether *version* is its id or its short id, in any case."""
        return version.lower() in (self.id, self.short_id)


UNVERSIONED: Final = ModelVersion(id="0" * 64, created_at_s=0)
"""Digest of weights that were not read."""


def version_of(name: str, digest: str) -> str:
    """The version id, 64 hex digits, of the weights with *digest* as the model *name*.

    The name is part of it, because callers may ask for a version without saying of which model.
    """
    return hashlib.sha256(f"{name.lower()}\n{digest}".encode()).hexdigest()


def weights_digest(checkpoint: Path) -> str:
    """Compute a digest of the weights, 64 hex digits: over the files' names, sizes, beginnings, middles and ends.

    Not safe against deliberate forgery: hashing all of a 70B model takes minutes, this takes milliseconds.
    File times are ignored, so that a copy has the same digest.

    Args:
        checkpoint: a checkpoint directory, or a file that is a whole model or the first part of one.

    Raises:
        CheckpointRefused: a file cannot be read.
    """
    whole = hashlib.sha256()
    try:
        for path in _weight_files(checkpoint):
            size_bytes = path.stat().st_size
            name = path.name.encode()
            whole.update(len(name).to_bytes(4, "little") + name + size_bytes.to_bytes(8, "little"))
            with path.open("rb") as file:
                for start in (0, size_bytes // 2, max(0, size_bytes - _SAMPLE_BYTES)):
                    file.seek(start)
                    whole.update(file.read(_SAMPLE_BYTES))
    except OSError as error:
        raise CheckpointRefused(f"{error.filename} cannot be read: {error.strerror}.") from error
    return whole.hexdigest()


def _weight_files(checkpoint: Path) -> list[Path]:
    if checkpoint.is_file():
        return part_paths(checkpoint)
    return sorted(path for pattern in _WEIGHT_FILES for path in checkpoint.glob(pattern) if path.is_file())
