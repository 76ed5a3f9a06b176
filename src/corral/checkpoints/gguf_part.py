"""Read one file in the GGUF format, a whole model or a part of one: the header, then tensors by position.

The format, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, in little-endian order: the magic, a version, two
counts; typed metadata by key; a table of the tensors' names, sizes, types and offsets; the tensors' bytes, each at the
next multiple of an alignment. Every count, length, type and offset is checked against the size of the file and a limit
before it is used.
"""

from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Final

from corral.checkpoints.cursor import Cursor
from corral.checkpoints.gguf_types import READ_NAMES, REMOVED, TYPES, BlockType
from corral.checkpoints.gguf_values import Value, read_value
from corral.checkpoints.regular_file import RegularFile
from corral.core.errors import CheckpointRefused

_MAGIC: Final = b"GGUF"
_VERSIONS: Final = (2, 3)
"""Version 1 had 32-bit counts and was soon replaced. Version 3 only adds big-endian files, which are refused."""
_MOST_HEADER_BYTES: Final = 32 * 2**20
"""Forty times the size of Llama 2's header with its vocabulary."""
_MOST_KEY_BYTES: Final = 2**16
_MOST_PAIRS: Final = 10_000
MOST_TENSORS: Final = 100_000
_MOST_NAME_BYTES: Final = 256
_MOST_DIMENSIONS: Final = 4
_MOST_ALIGNMENT_BYTES: Final = 2**16
_LEAST_PAIR_BYTES: Final = 8 + 4 + 1
_LEAST_TENSOR_BYTES: Final = 8 + 4 + 8 + 4 + 8


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufTensor:
    """Type, shape and position of a tensor in its file."""

    type: BlockType
    shape: tuple[int, ...]
    """Outermost dimension first (the file has the reverse order): ``(out, in)`` or ``(width,)``."""
    offset: int
    """Bytes from the start of the file."""
    size_bytes: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.shape[-1] // self.type.elements * self.type.size_bytes


class GgufPart(RegularFile):
    """An open file in the GGUF format with its metadata and its table of tensors."""

    def __init__(self, path: Path) -> None:
        """Open the file and check its header.

        Raises:
            CheckpointRefused: the file is missing, truncated or malformed.
        """
        super().__init__(path)
        try:
            header = Cursor(self, _MOST_HEADER_BYTES)
            tensor_count, pair_count = self._read_counts(header)
            self.metadata = self._read_metadata(header, pair_count)
            self.tensors = self._read_tensors(header, tensor_count)
        except BaseException:
            self.close()
            raise

    def _read_counts(self, header: Cursor) -> tuple[int, int]:
        if header.take(4, "its magic") != _MAGIC:
            self.check_kind("a GGUF file")
            raise self.refused("is not a GGUF file: it does not begin with GGUF")
        version = header.integer(4, "its version")
        if version not in _VERSIONS:
            swapped = int.from_bytes(version.to_bytes(4, "little"), "big") in _VERSIONS
            kind = "big-endian" if swapped else f"of version {version}"
            raise self.refused(f"is a GGUF file {kind}; only little-endian ones of version 2 and 3 are read")
        tensor_count = header.integer(8, "its number of tensors")
        pair_count = header.integer(8, "its number of metadata pairs")
        if tensor_count > MOST_TENSORS or tensor_count * _LEAST_TENSOR_BYTES > header.left:
            raise self.refused(f"claims {tensor_count} tensors")
        if pair_count > _MOST_PAIRS or pair_count * _LEAST_PAIR_BYTES > header.left:
            raise self.refused(f"claims {pair_count} metadata pairs")
        return tensor_count, pair_count

    def _read_metadata(self, header: Cursor, count: int) -> dict[str, Value]:
        metadata: dict[str, Value] = {}
        for index in range(count):
            key = header.text(_MOST_KEY_BYTES, f"metadata key {index}")
            if key in metadata:
                raise self.refused(f"has the metadata key {_short(key)} twice")
            metadata[key] = read_value(header, _short(key))
        return metadata

    def _read_tensors(self, header: Cursor, count: int) -> dict[str, GgufTensor]:
        alignment = self._alignment()
        tensors: dict[str, GgufTensor] = {}
        for index in range(count):
            name = header.text(_MOST_NAME_BYTES, f"the name of tensor {index}")
            if name in tensors:
                raise self.refused(f"has the tensor {_short(name)} twice")
            tensors[name] = self._read_tensor(header, _short(name))
        start = _aligned(header.position, alignment)
        self._check_places(tensors, start=start, alignment=alignment)
        return {name: replace(tensor, offset=start + tensor.offset) for name, tensor in tensors.items()}

    def _read_tensor(self, header: Cursor, name: str) -> GgufTensor:
        """Read a table entry; its offset is relative to the first tensor."""
        dimensions = header.integer(4, f"the dimensions of tensor {name}")
        if not 1 <= dimensions <= _MOST_DIMENSIONS:
            raise self.refused(f"gives tensor {name} {dimensions} dimensions")
        shape = tuple(header.integer(8, f"the shape of tensor {name}") for _ in range(dimensions))[::-1]
        number = header.integer(4, f"the type of tensor {name}")
        kind = TYPES.get(number)
        if kind is None:
            removed = REMOVED.get(number)
            nearest = "" if removed is None else " Choose a file of Q4_0, the nearest that is read."
            raise CheckpointRefused(
                f"{self.path.name} holds tensor {name} as {removed or f'type {number}'}; only {READ_NAMES} are "
                f"read.{nearest}"
            )
        if not all(shape) or shape[-1] % kind.elements:
            raise self.refused(f"gives tensor {name} shape {list(shape)}, which is not whole blocks of {kind.name}")
        size_bytes = prod(shape) // kind.elements * kind.size_bytes
        offset = header.integer(8, f"the offset of tensor {name}")
        return GgufTensor(type=kind, shape=shape, offset=offset, size_bytes=size_bytes)

    def _alignment(self) -> int:
        alignment = self.metadata.get("general.alignment", 32)
        if type(alignment) is not int or not 8 <= alignment <= _MOST_ALIGNMENT_BYTES or alignment & (alignment - 1):
            raise self.refused(
                f"has a general.alignment of {str(alignment)[:100]}; "
                f"only powers of two in [8, {_MOST_ALIGNMENT_BYTES}] are read"
            )
        return alignment

    def _check_places(self, tensors: dict[str, GgufTensor], *, start: int, alignment: int) -> None:
        """Check that the tensors are contiguous and end at the end of the file."""
        position = end = 0
        for name, tensor in sorted(tensors.items(), key=lambda item: item[1].offset):
            if tensor.offset != position:
                raise self.refused(
                    f"has an overlap or a gap before tensor {_short(name)}: "
                    f"its offset is {tensor.offset}, and should be {position}"
                )
            end = position + tensor.size_bytes
            position = _aligned(end, alignment)
        if tensors and start + end > self.size_bytes:
            raise self.refused(f"is truncated: {self.size_bytes} bytes, and its tensors end at {start + end}")
        if start + position < self.size_bytes:
            raise self.refused(f"has {self.size_bytes - start - position} bytes after its last tensor")


def _aligned(position: int, alignment: int) -> int:
    return -(-position // alignment) * alignment


def _short(text: str) -> str:
    return text if len(text) <= 100 else text[:100] + "…"
