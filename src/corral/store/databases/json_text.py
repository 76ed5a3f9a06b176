"""Encode and decode JSON columns: compact, the same on every database, for any text.

Does not use orjson, which refuses the lone surrogates that callers can send as escapes.
"""

import json
import math
from typing import Any, Final

import structlog

_log = structlog.get_logger(__name__)
_SHORT_DIGITS: Final = 18
"""Integers with up to this many characters fit 64 bits."""


def dumps(value: Any) -> str:
    """Encode as compact ASCII JSON; NUL and surrogates become escapes."""
    return json.dumps(value, separators=(",", ":"))


def loads(text: str | bytes) -> Any:
    """Decode a column. Invalid JSON becomes None, an integer beyond 64 bits a float.

    An earlier version may have written either; one such row must not break a list.
    """
    try:
        return json.loads(text, parse_int=_integer)
    except (ValueError, RecursionError):
        _log.warning("json_column_unreadable", length=len(text))
        return None


def _integer(digits: str) -> int | float | str:
    """Parse an integer; beyond 64 bits to a float or str, because the API's encoders refuse larger integers."""
    if len(digits) <= _SHORT_DIGITS:
        return int(digits)
    number = float(digits)
    if math.isinf(number):
        return digits
    return int(digits) if -(2**63) <= int(number) < 2**64 and -(2**63) <= int(digits) < 2**64 else number
