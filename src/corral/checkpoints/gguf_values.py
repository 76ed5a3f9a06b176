"""Read typed values of a GGUF file's metadata."""

import sys
from array import array
from typing import Any, Final, TypeAlias

from corral.checkpoints.cursor import Cursor

Numbers: TypeAlias = "array[Any]"
"""Numbers of the type in the file."""
Value: TypeAlias = "int | float | bool | str | list[str] | Numbers"

_BOOL: Final = 7
_TEXT: Final = 8
_ARRAY: Final = 9
_TYPES: Final = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", _BOOL: "B", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
"""Type codes of ``array`` by GGUF's type numbers."""
_MOST_TEXT_BYTES: Final = 2**20


def read_value(header: Cursor, key: str) -> Value:
    """Read the next value, which is preceded by its type.

    Raises:
        CheckpointRefused: the value is truncated, of an unknown type, or an array of arrays; the message names the key.
    """
    kind = header.integer(4, f"the type of {key}")
    if kind == _ARRAY:
        return _read_array(header, key)
    if kind == _TEXT:
        return header.text(_MOST_TEXT_BYTES, f"the text of {key}")
    [number] = _read_numbers(header, kind, 1, key)
    if kind != _BOOL:
        return number
    if number > 1:
        raise header.file.refused(f"gives {key} the truth value {number}")
    return bool(number)


def _read_array(header: Cursor, key: str) -> Value:
    kind = header.integer(4, f"the element type of {key}")
    count = header.integer(8, f"the length of {key}")
    if kind == _ARRAY:
        raise header.file.refused(f"holds an array of arrays in {key}; Llama models have none")
    if kind == _TEXT:
        return header.texts(count, key)
    return _read_numbers(header, kind, count, key)


def _read_numbers(header: Cursor, kind: int, count: int, key: str) -> Numbers:
    if kind not in _TYPES:
        raise header.file.refused(f"gives {key} the unknown type {kind}")
    numbers: Numbers = array(_TYPES[kind])
    numbers.frombytes(header.take(count * numbers.itemsize, f"the value of {key}"))
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers
