"""Read safetensors files: the header, then tensors in row ranges.

The file format is documented at https://huggingface.co/docs/safetensors: eight bytes of little-endian header length, a
JSON header, then the tensors' bytes without gaps. All values of the header are checked against the size of the file.
"""

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import cast

import numpy as np

from corral.checkpoints.regular_file import RegularFile
from corral.engines.openvino.tensors import Rows

_MOST_HEADER_BYTES = 8 * 2**20
"""A hundred times the header of the largest Llama; limited because parsed JSON takes a multiple of its size."""
_MOST_TENSORS = 100_000
_DTYPE_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8,
}  # fmt: skip
READABLE_DTYPES = ("BF16", "F16", "F32")
"""Data types that ``SafetensorsFile.read_rows`` converts to float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorEntry:
    """Type, shape and position of a tensor in its file."""

    dtype: str
    shape: tuple[int, ...]
    offset: int
    """Bytes from the start of the file."""
    size_bytes: int


class SafetensorsFile(RegularFile):
    """An open safetensors file with its table of tensors."""

    def __init__(self, path: Path) -> None:
        """Open the file and check its header.

        Raises:
            CheckpointRefused: the file is missing, truncated or malformed.
        """
        super().__init__(path)
        try:
            self.entries = self._check_entries(self._read_header())
        except BaseException:
            self.close()
            raise

    def read_rows(self, name: str, start: int, stop: int) -> Rows:
        """Read rows ``[start, stop)`` of a tensor as float32 ``(rows, columns)``; a vector is one row."""
        entry = self.entries[name]
        columns = entry.shape[-1]
        row_bytes = columns * _DTYPE_BYTES[entry.dtype]
        raw = self.read(entry.offset + start * row_bytes, (stop - start) * row_bytes)
        match entry.dtype:
            case "BF16":
                wide = np.frombuffer(raw, "<u2").astype(np.uint32)
                wide <<= 16
                values = wide.view(np.float32)
            case "F16":
                values = np.frombuffer(raw, "<f2").astype(np.float32)
            case "F32":
                values = np.frombuffer(raw, "<f4")
            case other:
                raise self.refused(f"holds {name} as {other}; only {', '.join(READABLE_DTYPES)} are read")
        return values.reshape(stop - start, columns)

    def _read_header(self) -> dict[str, object]:
        if self.size_bytes < 8:
            raise self.refused(f"is truncated: {self.size_bytes} bytes, and the header's length alone takes 8")
        start = self.read(0, min(9, self.size_bytes))
        if bytes(start[8:]) != b"{":
            self.check_kind("a safetensors file")
        self._header_bytes = int.from_bytes(start[:8], "little")
        if self._header_bytes > _MOST_HEADER_BYTES:
            raise self.refused(
                f"is no safetensors file, or a damaged one: it claims a header of {self._header_bytes} bytes, and at "
                f"most {_MOST_HEADER_BYTES} are read"
            )
        if 8 + self._header_bytes > self.size_bytes:
            raise self.refused(
                f"is truncated: {self.size_bytes} bytes, and its header ends at {8 + self._header_bytes}"
            )
        try:
            header: object = json.loads(self.read(8, self._header_bytes), object_pairs_hook=_unique_pairs)
        except (ValueError, RecursionError) as error:
            raise self.refused("has a header that is not valid JSON with unique names") from error
        if not isinstance(header, dict):
            raise self.refused("has a header that is not a JSON object")
        return cast("dict[str, object]", header)

    def _check_entries(self, header: dict[str, object]) -> dict[str, TensorEntry]:
        header.pop("__metadata__", None)
        if len(header) > _MOST_TENSORS:
            raise self.refused(f"claims {len(header)} tensors")
        entries = {name: self._check_entry(name, value) for name, value in header.items()}
        position = 8 + self._header_bytes
        for name, entry in sorted(entries.items(), key=lambda item: (item[1].offset, item[1].size_bytes)):
            if entry.offset != position:
                raise self.refused(f"has an overlap or a gap before tensor {_short(name)}")
            position += entry.size_bytes
        if position > self.size_bytes:
            raise self.refused(f"is truncated: {self.size_bytes} bytes, and its tensors end at {position}")
        if position < self.size_bytes:
            raise self.refused(f"has {self.size_bytes - position} bytes after its last tensor")
        return entries

    def _check_entry(self, name: str, value: object) -> TensorEntry:
        fields = cast("dict[str, object]", value) if isinstance(value, dict) else {}
        dtype, shape, offsets = fields.get("dtype"), _counts(fields.get("shape")), _counts(fields.get("data_offsets"))
        if not isinstance(dtype, str) or dtype not in _DTYPE_BYTES:
            raise self.refused(f"has tensor {_short(name)} of unknown dtype {_short(str(dtype))}")
        if shape is None or len(shape) > 8 or offsets is None or len(offsets) != 2:
            raise self.refused(f"has tensor {_short(name)} with a malformed shape or data_offsets")
        begin, end = offsets
        if end - begin != prod(shape) * _DTYPE_BYTES[dtype]:
            raise self.refused(
                f"gives tensor {_short(name)} {end - begin} bytes, but shape {list(shape)} in {dtype} "
                f"takes {prod(shape) * _DTYPE_BYTES[dtype]}"
            )
        return TensorEntry(dtype=dtype, shape=shape, offset=8 + self._header_bytes + begin, size_bytes=end - begin)


def _counts(value: object) -> tuple[int, ...] | None:
    if not isinstance(value, list):
        return None
    items = cast("list[object]", value)
    if not all(type(item) is int and 0 <= item < 2**63 for item in items):
        return None
    return tuple(cast("list[int]", items))


def _unique_pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise ValueError("a name appears twice")
    return unique


def _short(text: str) -> str:
    return text if len(text) <= 100 else text[:100] + "…"
