"""Read a Llama checkpoint from a Transformers directory: ``config.json`` and ``*.safetensors``.

Opening checks that all tensors exist with the right shapes and readable data types; no tensor is read. Pickled weights
are refused, because loading a pickle can run code.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn, Self, cast

from corral.checkpoints.source import DirectorySource, read_json
from corral.checkpoints.vocabulary import Vocabulary
from corral.core.errors import CheckpointRefused
from corral.engines.openvino.safetensors import READABLE_DTYPES, SafetensorsFile
from corral.engines.openvino.shape import LlamaShape, read_shape
from corral.engines.openvino.tensors import HeldForm, Rows

_MOST_FILES = 1000
_INDEX = "model.safetensors.index.json"
_DIGEST_CHUNK_BYTES = 16 * 2**20
_IGNORED_SUFFIXES = (".rotary_emb.inv_freq",)
"""Tensors of old exports that are computed from ``rope_theta`` instead."""


class SafetensorsCheckpoint:
    """An open, checked checkpoint."""

    def __init__(self, directory: Path) -> None:
        """Open and check the checkpoint.

        Raises:
            CheckpointRefused: not a Llama checkpoint, or one with missing, malformed or unsupported parts.
        """
        self.path = directory
        self.shape: LlamaShape = read_shape(DirectorySource(directory).read_config())
        self.held: Mapping[str, HeldForm] = MappingProxyType({})
        with ExitStack() as opening:
            self._files = [opening.enter_context(SafetensorsFile(path)) for path in _weight_files(directory)]
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
        """Get ``tokenizer.json``, else ``tokenizer.model``; None if there is neither."""
        return next(DirectorySource(self.path).vocabularies(), None)

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


def _weight_files(directory: Path) -> list[Path]:
    if (directory / _INDEX).exists():
        return _indexed_files(directory)
    found = sorted(directory.glob("*.safetensors"))
    if len(found) > _MOST_FILES:
        raise CheckpointRefused(f"{directory} holds {len(found)} safetensors files.")
    if found:
        return found
    if any(next(directory.glob(pattern), None) for pattern in ("*.bin", "*.pt", "*.pth")):
        raise CheckpointRefused(
            f"{directory} holds weights only as pickles (.bin, .pt, .pth), which can run code when loaded; "
            f"only *.safetensors are read."
        )
    raise CheckpointRefused(f"{directory} holds no weights: no *.safetensors file.")


def _indexed_files(directory: Path) -> list[Path]:
    weight_map = read_json(directory / _INDEX).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointRefused(f"{_INDEX}: weight_map is missing or not an object.")
    names = set(cast("dict[str, object]", weight_map).values())
    if len(names) > _MOST_FILES:
        raise CheckpointRefused(f"{_INDEX} names {len(names)} files.")
    for name in names:
        # A checkpoint is untrusted: an entry must not refer to a file outside its directory.
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise CheckpointRefused(f"{_INDEX}: {str(name)[:100]!r} is not a plain *.safetensors file name.")
    return [directory / name for name in sorted(cast("set[str]", names))]


def _check_unwanted(name: str, shape: LlamaShape, file: SafetensorsFile) -> None:
    """Refuse unknown tensors: ignoring a bias, an adapter or an extra layer would silently give wrong answers."""
    if name.endswith(_IGNORED_SUFFIXES) or (name == "lm_head.weight" and shape.tied_embeddings):
        return
    raise CheckpointRefused(f"{file.path.name}: tensor {name[:100]} is not part of the model in config.json.")
