"""Tensor data types of GGUF files: those that are read, and those that are only named in error messages."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockType:
    """A tensor data type: number of elements and bytes of a block."""

    name: str
    elements: int
    size_bytes: int
    nearest: str | None = None
    """The type to use instead; None for a type that is read."""


_READ: Final = (
    (0, "F32", 1, 4), (1, "F16", 1, 2), (30, "BF16", 1, 2), (2, "Q4_0", 32, 18), (3, "Q4_1", 32, 20),
    (6, "Q5_0", 32, 22), (7, "Q5_1", 32, 24), (8, "Q8_0", 32, 34), (12, "Q4_K", 256, 144), (13, "Q5_K", 256, 176),
    (14, "Q6_K", 256, 210),
)  # fmt: skip
_UNREAD: Final = (
    (9, "Q8_1", 32, 40, "Q8_0"), (10, "Q2_K", 256, 84, "Q4_K"), (11, "Q3_K", 256, 110, "Q4_K"),
    (15, "Q8_K", 256, 292, "Q8_0"), (16, "IQ2_XXS", 256, 66, "Q4_K"), (17, "IQ2_XS", 256, 74, "Q4_K"),
    (18, "IQ3_XXS", 256, 98, "Q4_K"), (19, "IQ1_S", 256, 50, "Q4_K"), (20, "IQ4_NL", 32, 18, "Q4_0"),
    (21, "IQ3_S", 256, 110, "Q4_K"), (22, "IQ2_S", 256, 82, "Q4_K"), (23, "IQ4_XS", 256, 136, "Q4_K"),
    (24, "I8", 1, 1, "Q8_0"), (25, "I16", 1, 2, "F16"), (26, "I32", 1, 4, "F32"), (27, "I64", 1, 8, "F32"),
    (28, "F64", 1, 8, "F32"), (29, "IQ1_M", 256, 56, "Q4_K"), (34, "TQ1_0", 256, 54, "Q4_0"),
    (35, "TQ2_0", 256, 66, "Q4_0"), (39, "MXFP4", 32, 17, "Q4_0"), (40, "NVFP4", 64, 36, "Q4_0"),
    (41, "Q1_0", 128, 18, "Q4_0"),
)  # fmt: skip
"""With the nearest type that is read: of as many bits, or the fewest above."""

TYPES: Final[Mapping[int, BlockType]] = {
    number: BlockType(name=name, elements=elements, size_bytes=size_bytes)
    for number, name, elements, size_bytes in _READ
} | {
    number: BlockType(name=name, elements=elements, size_bytes=size_bytes, nearest=nearest)
    for number, name, elements, size_bytes, nearest in _UNREAD
}
"""By the number in the file."""

READ_NAMES: Final = ", ".join(name for _, name, _, _ in _READ)
REMOVED: Final[Mapping[int, str]] = {
    4: "Q4_2", 5: "Q4_3", 31: "Q4_0_4_4", 32: "Q4_0_4_8", 33: "Q4_0_8_8", 36: "IQ4_NL_4_4", 37: "IQ4_NL_4_8",
    38: "IQ4_NL_8_8",
}  # fmt: skip
"""Names of types that llama.cpp has removed; Q4_0 is the nearest that is read."""
