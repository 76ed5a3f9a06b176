"""The block formats of GGUF files: to float32, and where the formats are the same, to how converted models store them.

A block is a run of a row's elements with their scales; the layouts are those of
https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h. Arrays are ``(rows, blocks, ...)``. Knows nothing of
files or models.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from corral.engines.openvino.tensors import Rows, Scales, Stored

Blocks = NDArray[np.void]
Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

FLOATS: Final = ("F32", "F16", "BF16")
"""Kinds that are no blocks."""
EXACT: Final = ("Q4_0", "Q8_0")
"""Kinds that ``encode_exactly`` takes."""

_LOW: Final = np.uint8(0xF)
_FOUR: Final = np.uint8(4)

_LAYOUTS: Final[Mapping[str, np.dtype[np.void]]] = {
    "Q4_0": np.dtype([("d", "<f2"), ("q", "u1", 16)]),
    "Q4_1": np.dtype([("d", "<f2"), ("m", "<f2"), ("q", "u1", 16)]),
    "Q5_0": np.dtype([("d", "<f2"), ("high", "u1", 4), ("q", "u1", 16)]),
    "Q5_1": np.dtype([("d", "<f2"), ("m", "<f2"), ("high", "u1", 4), ("q", "u1", 16)]),
    "Q8_0": np.dtype([("d", "<f2"), ("q", "i1", 32)]),
    "Q4_K": np.dtype([("d", "<f2"), ("m", "<f2"), ("scales", "u1", (3, 4)), ("q", "u1", (4, 32))]),
    "Q5_K": np.dtype([("d", "<f2"), ("m", "<f2"), ("scales", "u1", (3, 4)), ("high", "u1", 32), ("q", "u1", (4, 32))]),
    "Q6_K": np.dtype([("q", "u1", (2, 64)), ("high", "u1", (2, 32)), ("scales", "i1", 16), ("d", "<f2")]),
}
"""``d`` scales the integers ``q``; ``m`` is added or taken away; ``high`` has the bits above the lower four."""


def decode_rows(raw: Bytes, kind: str) -> Rows:
    """Float32 ``(rows, columns)`` from rows as the file has them, ``(rows, bytes)``. Values may not be finite."""
    with np.errstate(all="ignore"):
        match kind:
            case "F32":
                return raw.view("<f4")
            case "F16":
                return raw.view("<f2").astype(np.float32)
            case "BF16":
                return (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)
            case _:
                return _DECODERS[kind](raw.view(_LAYOUTS[kind])).reshape(len(raw), -1)


def encode_exactly(raw: Bytes, kind: str) -> tuple[Stored, Scales]:
    """Values and scales ``(rows, blocks)`` of Q8_0 as int8, of Q4_0 as int4, without any loss.

    Raises:
        ValueError: a scale is not finite.
    """
    blocks = raw.view(_LAYOUTS[kind])
    scales: Scales = np.ascontiguousarray(blocks["d"])
    if not np.isfinite(scales).all():
        raise ValueError("a scale that is not finite")
    if kind == "Q8_0":
        return blocks["q"].reshape(len(raw), -1), scales
    # The file counts from -8 up, where int4 is a two's complement: that is the highest bit, turned over.
    nibbles = _nibbles(blocks["q"]).reshape(len(raw), -1) ^ np.uint8(8)
    return nibbles[:, 0::2] | nibbles[:, 1::2] << _FOUR, scales


def _q4_0(blocks: Blocks) -> Floats:
    return _scale(blocks, "d") * (_nibbles(blocks["q"]).astype(np.float32) - 8)


def _q4_1(blocks: Blocks) -> Floats:
    return _scale(blocks, "d") * _nibbles(blocks["q"]).astype(np.float32) + _scale(blocks, "m")


def _q5_0(blocks: Blocks) -> Floats:
    return _scale(blocks, "d") * (_five_bits(blocks).astype(np.float32) - 16)


def _q5_1(blocks: Blocks) -> Floats:
    return _scale(blocks, "d") * _five_bits(blocks).astype(np.float32) + _scale(blocks, "m")


def _q8_0(blocks: Blocks) -> Floats:
    return _scale(blocks, "d") * blocks["q"].astype(np.float32)


def _q4_k(blocks: Blocks) -> Floats:
    return _scale_groups(blocks, _nibble_groups(blocks["q"]))


def _q5_k(blocks: Blocks) -> Floats:
    high = _shifted(blocks["high"][..., None, :], range(8)) & np.uint8(1)  # (rows, blocks, 8, 32)
    return _scale_groups(blocks, _nibble_groups(blocks["q"]) | high << _FOUR)


def _q6_k(blocks: Blocks) -> Floats:
    """Two halves of 128 elements; within each, two bits of one byte go to four elements that are 32 apart."""
    low = _shifted(blocks["q"][..., None, :], (0, 4)) & _LOW  # (rows, blocks, 2, 2, 64)
    high = _shifted(blocks["high"][..., None, :], (0, 2, 4, 6)) & np.uint8(3)  # (rows, blocks, 2, 4, 32)
    integers = (low.reshape(high.shape) | high << _FOUR).astype(np.float32) - 32
    scales = _scale(blocks, "d") * blocks["scales"].astype(np.float32)
    return scales[..., None] * integers.reshape(*scales.shape, 16)


_DECODERS: Final[Mapping[str, Callable[[Blocks], Floats]]] = {
    "Q4_0": _q4_0, "Q4_1": _q4_1, "Q5_0": _q5_0, "Q5_1": _q5_1, "Q8_0": _q8_0,
    "Q4_K": _q4_k, "Q5_K": _q5_k, "Q6_K": _q6_k,
}  # fmt: skip


def _scale(blocks: Blocks, field: str) -> Floats:
    """A number a block, ``(rows, blocks, 1)``."""
    return blocks[field].astype(np.float32)[..., None]


def _nibbles(packed: Bytes) -> Bytes:
    """Element ``i`` and element ``i + 16`` of a block share a byte; the first has its lower half."""
    return np.concatenate([packed & _LOW, packed >> _FOUR], axis=-1)


def _five_bits(blocks: Blocks) -> Bytes:
    return _nibbles(blocks["q"]) | np.unpackbits(blocks["high"], axis=-1, bitorder="little") << _FOUR


def _nibble_groups(packed: Bytes) -> Bytes:
    """Eight groups of 32 from four runs of 32 bytes, each of which holds two: ``(rows, blocks, 8, 32)``."""
    pairs = _shifted(packed[..., None, :], (0, 4)) & _LOW
    return pairs.reshape(*packed.shape[:-2], 8, 32)


def _scale_groups(blocks: Blocks, integers: Bytes) -> Floats:
    """Eight groups with a scale and a minimum each, both of six bits, ``(rows, blocks, 8, 32)``."""
    first, second, third = (blocks["scales"][..., row, :] for row in range(3))
    factors = np.concatenate([first & 0x3F, third & 0xF | first >> 2 & 0x30], axis=-1)
    offsets = np.concatenate([second & 0x3F, third >> 4 | second >> 2 & 0x30], axis=-1)
    scales: Floats = _scale(blocks, "d") * factors.astype(np.float32)
    minima: Floats = _scale(blocks, "m") * offsets.astype(np.float32)
    return scales[..., None] * integers.astype(np.float32) - minima[..., None]


def _shifted(packed: Bytes, shifts: Any) -> Bytes:
    """Each byte shifted right by each number of bits, which become the last axis but one."""
    return packed >> np.array(shifts, np.uint8)[:, None]
