"""How values become JSON in a column: short, the same on every database, and able to hold any text.

Not orjson: a lone surrogate, which a caller can send as an escape, must come through.
"""

import json
import math
from typing import Any, Final

import structlog

_log = structlog.get_logger(__name__)
_SHORT_DIGITS: Final = 18
"""Every integer of so many characters fits 64 bits."""


def dumps(value: Any) -> str:
    """Compact ASCII JSON, in which NUL and surrogates are escapes."""
    return json.dumps(value, separators=(",", ":"))


def loads(text: str | bytes) -> Any:
    """Read a column as far as it can be shown: None for what is no JSON, a float for an integer over 64 bits.

    An earlier version may have written either; one such row must not break a list.
    """
    try:
        return json.loads(text, parse_int=_integer)
    except (ValueError, RecursionError):
        _log.warning("json_column_unreadable", length=len(text))
        return None


def _integer(digits: str) -> int | float | str:
    """No encoder of the doors writes an integer beyond 64 bits."""
    if len(digits) <= _SHORT_DIGITS:
        return int(digits)
    number = float(digits)
    if math.isinf(number):
        return digits
    return int(digits) if -(2**63) <= int(number) < 2**64 and -(2**63) <= int(digits) < 2**64 else number
