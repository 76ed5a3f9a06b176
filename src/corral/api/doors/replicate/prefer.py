"""Parse the headers ``Prefer: wait`` and ``Cancel-After``."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from corral.api.doors.replicate.faults import Fault, invalid

CANCEL_AFTER: Final = "Cancel-After"
MAX_WAIT_S: Final = 60
MIN_CANCEL_S: Final = 5
MAX_CANCEL_S: Final = 86_400
_MARGIN_S: Final = 0.2
"""Clients give up half a second after the requested wait, and the response needs time to travel."""
_WAIT: Final = re.compile(r"wait(?:\s*=\s*\"?([0-9]{1,9})\"?)?\Z", re.IGNORECASE)
_SECONDS: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\Z")
_PARTS: Final = re.compile(r"(?=[0-9])(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,6})s)?\Z", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """A ``wait`` preference."""

    applied: str
    """Value for the ``Preference-Applied`` response header."""
    timeout_s: float


def read_wait(values: Iterable[str]) -> Wait | None:
    """Parse the ``wait`` preference of all ``Prefer`` headers; others are ignored, values out of range are clamped.

    Grammar as in RFC 7240, and ``wait`` alone for the longest.
    """
    for preference in ",".join(values).split(","):
        match = _WAIT.match(preference.partition(";")[0].strip())
        if match is None:
            continue
        if match[1] is None:
            return Wait(applied="wait", timeout_s=MAX_WAIT_S - _MARGIN_S)
        wait_s = min(max(1, int(match[1])), MAX_WAIT_S)
        return Wait(applied=f"wait={wait_s}", timeout_s=wait_s - _MARGIN_S)
    return None


def read_cancel_after(values: list[str]) -> float | None:
    """Parse the deadline in seconds: ``30``, ``30s``, ``5m``, ``1h30m45s``.

    Raises:
        InvalidInput: several headers, no duration, or not between 5 seconds and a day.
    """
    if not values:
        return None
    duration_s = _duration_s(values[0].strip()) if len(values) == 1 else None
    if duration_s is None or not MIN_CANCEL_S <= duration_s <= MAX_CANCEL_S:
        description = f"Must be a duration such as 30, 30s, 5m or 1h30m45s, from {MIN_CANCEL_S}s to 24h"
        raise invalid([Fault(type="invalid_duration", field=CANCEL_AFTER, description=description)])
    return duration_s


def _duration_s(text: str) -> float | None:
    if match := _SECONDS.match(text):
        return float(match[1])
    if match := _PARTS.match(text):
        hours, minutes, seconds = (int(part or 0) for part in match.groups())
        return float(3600 * hours + 60 * minutes + seconds)
    return None
