"""Pagination: opaque cursors and absolute URLs, as both official clients need them."""

import base64
import binascii
import re
from collections.abc import Sequence
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

from corral.api.doors.replicate.faults import Fault, InvalidInput, invalid

T = TypeVar("T")

_ID: Final = re.compile(r"p=([0-9a-z]{1,64})\Z")
_OFFSET: Final = re.compile(r"o=([0-9]{1,6})\Z")


def page(results: Sequence[Any], *, following: str | None = None) -> dict[str, Any]:
    """Build a page; *following* is the URL of the next. ``previous`` is always null: no client uses it."""
    return {"previous": None, "next": following, "results": list(results)}


def address(url: str, cursor: str, others: dict[str, str]) -> str:
    """URL of the page at *cursor*; keeps the *others* of the query."""
    return f"{url}?{urlencode({**others, 'cursor': cursor})}"


def after_id(prediction_id: str) -> str:
    """Cursor after a prediction."""
    return _encode(f"p={prediction_id}")


def read_id(cursor: str) -> str:
    """Parse the prediction id of a cursor.

    Raises:
        InvalidInput: it is none of ours.
    """
    return _read(cursor, _ID)


def after_offset(offset: int) -> str:
    """Cursor after a number of entries of a list that hardly changes."""
    return _encode(f"o={offset}")


def read_offset(cursor: str) -> int:
    """Parse the number of entries before a cursor; raises as ``read_id`` does."""
    return int(_read(cursor, _OFFSET))


def wrong_cursor() -> InvalidInput:
    """Error for a cursor that no page returned."""
    return invalid([Fault(type="invalid_cursor", field="cursor", description="Must be one that a page gave")])


def _encode(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read(cursor: str, pattern: re.Pattern[str]) -> str:
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        match = pattern.match(base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii"))
    except (ValueError, binascii.Error):
        match = None
    if match is None:
        raise wrong_cursor()
    return match[1]
