"""Read a checkpoint from a Transformers directory: ``config.json`` and ``*.safetensors``.

Opening checks that all tensors exist with the right shapes and readable data types; no tensor is read.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn, Self

from corral.checkpoints.architectures.registry import read_shape
from corral.checkpoints.architectures.shape import ModelShape
from corral.checkpoints.directory import find_weight_files
from corral.checkpoints.source import DirectorySource
from corral.checkpoints.vocabulary import Vocabulary
from corral.checkpoints.vocabulary_choice import choose_vocabulary
from corral.core.errors import CheckpointRefused
from corral.engines.openvino.safetensors import READABLE_DTYPES, SafetensorsFile
from corral.engines.openvino.tensors import HeldForm, Rows

_IGNORED_SUFFIXES = (".rotary_emb.inv_freq",)
"""Tensors of old exports that are computed from ``rope_theta`` instead."""


class SafetensorsCheckpoint:
    """An open, checked checkpoint."""

    def __init__(self, directory: Path) -> None:
        """Open and check the checkpoint.

        Raises:
            CheckpointRefused: not a supported model, or one with missing, malformed or unsupported parts.
        """
        self.path = directory
        self.shape: ModelShape = read_shape(DirectorySource(directory).read_config())
        self.held: Mapping[str, HeldForm] = MappingProxyType({})
        with ExitStack() as opening:
            self._files = [opening.enter_context(SafetensorsFile(path)) for path in find_weight_files(directory)]
            self._places = self._place_tensors()
            self._closing = opening.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    @property
    def files(self) -> list[Path]:
        """Files with tensors."""
        return [file.path for file in self._files]

    def vocabulary(self) -> Vocabulary | None:
        """Get the vocabulary that prompts are encoded with; None if there is none."""
        is_there = DirectorySource(self.path).vocabulary_files()
        return choose_vocabulary(self.path).vocabulary if is_there else None

    def read_rows(self, name: str, start: int, stop: int) -> Rows:
        """Read rows ``[start, stop)`` of a tensor as float32 ``(rows, columns)``; a vector is one row."""
        return self._places[name].read_rows(name, start, stop)

    def read_encoded(self, name: str, start: int, stop: int) -> NoReturn:  # noqa: ARG002 - required by the protocol
        """Raise ``KeyError``: no tensor is stored as integers in this format."""
        raise KeyError(name)

    def _place_tensors(self) -> dict[str, SafetensorsFile]:
        wanted = self.shape.tensors()
        places: dict[str, SafetensorsFile] = {}
        for file in self._files:
            for name, entry in file.entries.items():
                if name in places:
                    raise CheckpointRefused(f"Tensor {name} is in both {places[name].path.name} and {file.path.name}.")
                if name not in wanted:
                    _check_unwanted(name, self.shape, file)
                    continue
                if entry.shape != wanted[name]:
                    raise CheckpointRefused(
                        f"{file.path.name}: tensor {name} has shape {list(entry.shape)}; "
                        f"config.json asks for {list(wanted[name])}."
                    )
                if entry.dtype not in READABLE_DTYPES:
                    raise CheckpointRefused(
                        f"{file.path.name}: tensor {name} is {entry.dtype}; only {', '.join(READABLE_DTYPES)} are read."
                    )
                places[name] = file
        for name in wanted:
            if name not in places:
                raise CheckpointRefused(f"Tensor {name} is in no weights file of {self.path}.")
        return places


def _check_unwanted(name: str, shape: ModelShape, file: SafetensorsFile) -> None:
    """Refuse unknown tensors: ignoring a bias, an adapter or an extra layer would silently give wrong answers."""
    if name.endswith(_IGNORED_SUFFIXES) or (name == "lm_head.weight" and shape.tied_embeddings):
        return
    raise CheckpointRefused(f"{file.path.name}: tensor {name[:100]} is not part of the model in config.json.")
