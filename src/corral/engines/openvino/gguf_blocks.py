"""Decode the block formats of GGUF files to float32, or losslessly to the integers of converted models.

A block is a sequence of elements of a row with their scales. The layouts are those of
https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h. Arrays are ``(rows, blocks, ...)``.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from corral.engines.openvino.tensors import Encoded, Rows, Scales

Blocks = NDArray[np.void]
Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

FLOATS: Final = ("F32", "F16", "BF16")
"""Types without blocks."""
EXACT: Final = ("Q4_0", "Q4_1", "Q5_0", "Q8_0")
"""Types that ``encode_exactly`` supports."""

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
"""``d`` scales the integers ``q``; ``m`` is added or subtracted; ``high`` has the bits above the lower four."""


def decode_rows(raw: Bytes, kind: str) -> Rows:
    """Decode rows of the file, ``(rows, bytes)``, to float32 ``(rows, columns)``. Values may be infinite or NaN."""
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


def encode_exactly(raw: Bytes, kind: str) -> Encoded:
    """Convert Q8_0 and Q5_0 to int8, and Q4_0 and Q4_1 to int4, the last with zero points, without loss.

    Raises:
        ValueError: a scale is not finite.
    """
    blocks = raw.view(_LAYOUTS[kind])
    scales: Scales = np.ascontiguousarray(blocks["d"])
    if not np.isfinite(scales).all():
        raise ValueError("a scale that is not finite")
    match kind:
        case "Q8_0":
            return Encoded(values=blocks["q"].reshape(len(raw), -1), scales=scales)
        case "Q5_0":
            return Encoded(values=_five_bits(blocks).view(np.int8).reshape(len(raw), -1) - np.int8(16), scales=scales)
        case "Q4_0":
            # The file stores value + 8, int4 is two's complement: they differ in the highest bit.
            return Encoded(values=_packed(_nibbles(blocks["q"]) ^ np.uint8(8)), scales=scales)
        case _:
            return _with_zeros(_nibbles(blocks["q"]), scales, np.ascontiguousarray(blocks["m"]))


def _with_zeros(values: Bytes, scales: Scales, least: Scales) -> Encoded:
    """Turn ``scale * value + least`` into ``(value - zero) * scale``, equal to within the rounding of float32."""
    if not np.isfinite(least).all():
        raise ValueError("a scale that is not finite")
    # A block of equal values has no scale: one of ``least``, a value of 0 and a zero of -1 give the same.
    is_flat = scales == 0
    scales = np.where(is_flat, least, scales)
    values = np.where(is_flat[..., None], np.uint8(0), values)
    wide = scales.astype(np.float32)
    zeros = np.divide(-least.astype(np.float32), wide, out=np.zeros_like(wide), where=wide != 0)
    return Encoded(values=_packed(values), scales=scales, zeros=zeros)


def _packed(nibbles: Bytes) -> Bytes:
    """Pack values of ``(rows, blocks, 32)`` in pairs, the first in the low half: ``(rows, bytes)``."""
    flat = nibbles.reshape(len(nibbles), -1)
    return flat[:, 0::2] | flat[:, 1::2] << _FOUR


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
    """Decode two halves of 128 elements; in each, a byte of ``high`` has two bits for four elements 32 apart."""
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
    """Get one number per block, ``(rows, blocks, 1)``."""
    return blocks[field].astype(np.float32)[..., None]


def _nibbles(packed: Bytes) -> Bytes:
    """Unpack nibbles: elements ``i`` and ``i + 16`` of a block share a byte, ``i`` in the lower half."""
    return np.concatenate([packed & _LOW, packed >> _FOUR], axis=-1)


def _five_bits(blocks: Blocks) -> Bytes:
    return _nibbles(blocks["q"]) | np.unpackbits(blocks["high"], axis=-1, bitorder="little") << _FOUR


def _nibble_groups(packed: Bytes) -> Bytes:
    """Unpack eight groups of 32 elements from four groups of 32 bytes: ``(rows, blocks, 8, 32)``."""
    pairs = _shifted(packed[..., None, :], (0, 4)) & _LOW
    return pairs.reshape(*packed.shape[:-2], 8, 32)


def _scale_groups(blocks: Blocks, integers: Bytes) -> Floats:
    """Apply the six-bit scale and minimum of each of eight groups, ``(rows, blocks, 8, 32)``."""
    first, second, third = (blocks["scales"][..., row, :] for row in range(3))
    factors = np.concatenate([first & 0x3F, third & 0xF | first >> 2 & 0x30], axis=-1)
    offsets = np.concatenate([second & 0x3F, third >> 4 | second >> 2 & 0x30], axis=-1)
    scales: Floats = _scale(blocks, "d") * factors.astype(np.float32)
    minima: Floats = _scale(blocks, "m") * offsets.astype(np.float32)
    return scales[..., None] * integers.astype(np.float32) - minima[..., None]


def _shifted(packed: Bytes, shifts: Any) -> Bytes:
    """Shift each byte right by each number of bits; the shifts become the second-last axis."""
    return packed >> np.array(shifts, np.uint8)[:, None]
