"""Quantize float weights to their stored form: int8 per row, int4 per group, bf16 or f32.

Quantization is symmetric; scales are rounded to float16 before the integers are computed. Weights are processed in row
ranges, so that memory stays small. ``graph`` reads the file written here.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from corral.checkpoints.architectures.shape import ModelShape
from corral.core.errors import CheckpointRefused
from corral.engines.openvino.options import WeightsFormat
from corral.engines.openvino.tensors import Encoded, HeldForm, Rows, Scales, Stored, TensorSource, Zeros

_ITEM_ELEMENTS = 2**18
_ALIGNMENT_BYTES = 64
_INTEGERS = (WeightsFormat.INT8, WeightsFormat.INT4)
_INT4_GROUPS = (128, 64, 32)
_MOST_ACTIVATION_GROUP = 128
_THREADS = 2
_SENSITIVE = ("model.embed_tokens.weight", "lm_head.weight")
"""Stored as int8 if the other matrices are int4, because int4 would cost too much quality."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTensor:
    """Position and format of a tensor in a weights file."""

    name: str
    rows: int
    columns: int
    format: WeightsFormat
    group: int
    """Columns that share a scale; 0 for formats without scales."""
    offset: int
    """Position of the values in the file, row by row."""
    size_bytes: int
    scales_offset: int
    """Position of the float16 scales, ``(rows, columns / group)``."""
    scales_bytes: int
    held: HeldForm | None = None
    """Format in the checkpoint, if it determined the stored format."""

    @property
    def zeros_offset(self) -> int:
        """Position of the float32 zero points, shaped as the scales."""
        return _aligned(self.scales_offset + self.scales_bytes)

    @property
    def zeros_bytes(self) -> int:
        """Size of the zero points; 0 if there are none."""
        return 2 * self.scales_bytes if self.held is not None and self.held.has_zeros else 0

    @property
    def end(self) -> int:
        """Position after the tensor, its scales and its zero points."""
        return self.zeros_offset + self.zeros_bytes if self.zeros_bytes else self.scales_offset + self.scales_bytes


def plan_tensors(
    shape: ModelShape, weights: WeightsFormat, held: Mapping[str, HeldForm] = MappingProxyType({})
) -> list[StoredTensor]:
    """Choose the format and position of each tensor. The last tensor's ``end`` is the size of the file.

    Args:
        shape: the model's sizes.
        weights: format of matrices that are floats in the checkpoint.
        held: matrices that are integers in the checkpoint. They keep their format unless *weights* is a float format,
            because quantizing twice would cost quality.
    """
    if weights not in _INTEGERS:
        held = {}
    plan: list[StoredTensor] = []
    position = 0
    for name, sizes in shape.tensors().items():
        rows, columns = sizes if len(sizes) == 2 else (1, sizes[0])
        form, group = _form(name, sizes, weights)
        kept = held.get(name) if len(sizes) == 2 else None
        if kept is not None:
            form, group = kept.format, kept.group
        size_bytes = rows * _row_bytes(form, columns)
        scales_offset = _aligned(position + size_bytes)
        scales_bytes = rows * (columns // group) * 2 if group else 0
        tensor = StoredTensor(
            name=name,
            rows=rows,
            columns=columns,
            format=form,
            group=group,
            offset=position,
            size_bytes=size_bytes,
            scales_offset=scales_offset,
            scales_bytes=scales_bytes,
            held=kept,
        )
        plan.append(tensor)
        position = _aligned(tensor.end)
    return plan


def activation_group(plan: list[StoredTensor]) -> int:
    """Choose the group size for the CPU plugin's dynamic quantization of activations; 0 disables it.

    Larger groups are faster in a batch, but above the smallest weight group the plugin silently uses float kernels.
    """
    groups = [tensor.group for tensor in plan if tensor.group]
    least = min(groups, default=0)
    return min(_MOST_ACTIVATION_GROUP, 1 << least.bit_length() - 1) if least else 0


def describe_storage(plan: list[StoredTensor], weights: WeightsFormat) -> str:
    """Describe the storage of most weights, with the checkpoint's format if that determined it: ``int8 from Q4_K``."""
    elements: Counter[tuple[WeightsFormat, str]] = Counter()
    for tensor in plan:
        if tensor.held is not None:
            elements[tensor.format, tensor.held.kind] += tensor.rows * tensor.columns
    if not elements:
        return weights.value
    [((form, kind), _)] = elements.most_common(1)
    return f"{form} from {kind}"


def write_tensors(source: TensorSource, plan: list[StoredTensor], path: Path, advance: Callable[[int], None]) -> None:
    """Encode all tensors of the plan to a new file.

    Args:
        source: reads rows of tensors.
        plan: result of ``plan_tensors``.
        path: file to create.
        advance: called with the bytes written, for each tensor.

    Raises:
        CheckpointRefused: a tensor contains a value that is not finite, or too large for its format.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.truncate(descriptor, plan[-1].end)
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="quantize") as pool:
            for tensor in plan:

                def encode_item(rows: tuple[int, int], tensor: StoredTensor = tensor) -> None:
                    _write_rows(descriptor, source, tensor, *rows)

                for _ in pool.map(encode_item, _row_ranges(tensor)):
                    pass
                advance(tensor.size_bytes + tensor.scales_bytes + tensor.zeros_bytes)
    finally:
        os.close(descriptor)


def encode_rows(values: Rows, form: WeightsFormat, group: int) -> Encoded:
    """Encode float32 ``(rows, columns)``.

    Raises:
        ValueError: a value is not finite, or its scale does not fit float16.
    """
    match form:
        case WeightsFormat.F32 | WeightsFormat.BF16:
            if not np.isfinite(values).all():
                raise ValueError("a value that is not finite")
            return Encoded(values=values if form is WeightsFormat.F32 else _to_bf16(values))
        case WeightsFormat.INT8:
            return _to_int8(values, group)
        case WeightsFormat.INT4:
            return _to_int4(values, group)


def _write_rows(descriptor: int, source: TensorSource, tensor: StoredTensor, start: int, stop: int) -> None:
    try:
        encoded = _encode(source, tensor, start, stop)
    except ValueError as error:
        raise CheckpointRefused(f"Tensor {tensor.name} holds {error} in rows {start} to {stop}.") from error
    _write_all(descriptor, encoded.values, tensor.offset + start * _row_bytes(tensor.format, tensor.columns))
    if encoded.scales is not None:
        _write_all(descriptor, encoded.scales, tensor.scales_offset + start * (tensor.columns // tensor.group) * 2)
    if encoded.zeros is not None:
        _write_all(descriptor, encoded.zeros, tensor.zeros_offset + start * (tensor.columns // tensor.group) * 4)


def _encode(source: TensorSource, tensor: StoredTensor, start: int, stop: int) -> Encoded:
    if tensor.held is not None and tensor.held.exact:
        return source.read_encoded(tensor.name, start, stop)
    return encode_rows(source.read_rows(tensor.name, start, stop), tensor.format, tensor.group)


def _write_all(descriptor: int, values: Stored | Scales | Zeros, offset: int) -> None:
    view, done = np.ascontiguousarray(values).data.cast("B"), 0
    while done < len(view):
        done += os.pwrite(descriptor, view[done:], offset + done)


def _row_ranges(tensor: StoredTensor) -> Iterator[tuple[int, int]]:
    rows = max(1, _ITEM_ELEMENTS // tensor.columns)
    for start in range(0, tensor.rows, rows):
        yield start, min(start + rows, tensor.rows)


def _form(name: str, sizes: tuple[int, ...], weights: WeightsFormat) -> tuple[WeightsFormat, int]:
    """Choose a tensor's format and group: vectors are f32; sensitive or indivisible matrices are not int4."""
    if len(sizes) == 1:
        return WeightsFormat.F32, 0
    columns = sizes[1]
    if weights is WeightsFormat.INT4 and name not in _SENSITIVE:
        group = next((group for group in _INT4_GROUPS if columns % group == 0), 0)
        if group:
            return WeightsFormat.INT4, group
    if weights in _INTEGERS:
        return WeightsFormat.INT8, columns
    return weights, 0


def _row_bytes(form: WeightsFormat, columns: int) -> int:
    match form:
        case WeightsFormat.INT4:
            return columns // 2
        case WeightsFormat.INT8:
            return columns
        case WeightsFormat.BF16:
            return columns * 2
        case WeightsFormat.F32:
            return columns * 4


def _to_bf16(values: Rows) -> NDArray[np.uint16]:
    """Round to nearest, ties to even, by adding just under half of the dropped range."""
    bits = values.view(np.uint32)
    return ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(np.uint16)


def _to_int8(values: Rows, group: int) -> Encoded:
    rows, columns = values.shape
    grouped = values.reshape(rows, columns // group, group)
    scales = _round_scales(np.abs(grouped).max(axis=2, keepdims=True) / np.float32(127))
    integers = grouped * _reciprocal(scales)
    np.rint(integers, out=integers)
    np.clip(integers, -127, 127, out=integers)
    stored = integers.astype(np.int8).reshape(rows, columns)
    return Encoded(values=stored, scales=scales.reshape(rows, columns // group))


def _to_int4(values: Rows, group: int) -> Encoded:
    """Quantize to int4. The value of largest magnitude maps to -8, so that all sixteen values are used."""
    rows, columns = values.shape
    grouped = values.reshape(rows, columns // group, group)
    low: Rows = grouped.min(axis=2, keepdims=True)
    high: Rows = grouped.max(axis=2, keepdims=True)
    extreme: Rows = np.where(-low > high, low, high)
    scales = _round_scales(extreme / np.float32(-8))
    integers = grouped * _reciprocal(scales)
    np.rint(integers, out=integers)
    nibbles = np.clip(integers, -8, 7, out=integers).astype(np.int8).view(np.uint8).reshape(rows, columns) & 0xF
    packed = np.bitwise_or(nibbles[:, 0::2], nibbles[:, 1::2] << 4, dtype=np.uint8)
    return Encoded(values=packed, scales=scales.reshape(rows, columns // group))


def _round_scales(exact: NDArray[np.float32]) -> Scales:
    with np.errstate(over="ignore"):
        scales = exact.astype(np.float16)
    if not np.isfinite(scales).all():
        raise ValueError("a value that is not finite, or too large to quantize,")
    return scales


def _reciprocal(scales: Scales) -> NDArray[np.float32]:
    """Compute 1/scale, or 0 if the scale is 0, so that the group becomes 0."""
    wide = scales.astype(np.float32)
    return np.divide(1, wide, out=np.zeros_like(wide), where=wide != 0)


def _aligned(position: int) -> int:
    return -(-position // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
