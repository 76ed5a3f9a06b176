"""Parsers of command-line values: amounts, limits, days, expiries.

Amounts are parsed exactly to integer nano-dollars, without floats. Invalid values are usage errors.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from math import isfinite
from typing import Final

import typer

from corral.core.errors import InvalidRequest
from corral.core.pricing import parse_usd

_COUNT: Final = re.compile(r"[0-9]{1,15}")
_DURATION: Final = re.compile(r"([0-9]{1,5})([dhm])")
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_UNIT_MS: Final = {"d": 86_400_000, "h": 3_600_000, "m": 60_000}
NO_LIMIT: Final = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A limit given as an option; None removes the limit."""

    value: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiry:
    """Expiry of a key: at a time, or after a duration."""

    at_ms: int | None = None
    """Unix time in milliseconds."""
    after_ms: int = 0

    def resolve(self, now_ms: int) -> int:
        """Compute the Unix time in milliseconds."""
        return now_ms + self.after_ms if self.at_ms is None else self.at_ms


def signed_usd(text: str) -> int:
    """Parse an amount in dollars, possibly negative, to nano-dollars.

    Raises:
        BadParameter: not an amount, more than nine decimals, or above the maximum.
    """
    try:
        return parse_usd(text)
    except InvalidRequest as refused:
        raise typer.BadParameter(str(refused)) from None


def usd_amount(text: str) -> int:
    """Parse an amount in dollars of 0 or more to nano-dollars.

    Raises:
        BadParameter: as ``signed_usd``, and for a negative amount.
    """
    amount_nusd = signed_usd(text)
    if amount_nusd < 0:
        raise typer.BadParameter(f"'{text}' is negative.")
    return amount_nusd


def usd_limit(text: str) -> Limit:
    """Parse a limit in dollars, or ``none``.

    Raises:
        BadParameter: as ``usd_amount``.
    """
    return Limit(value=None if text == NO_LIMIT else usd_amount(text))


def count_limit(text: str) -> Limit:
    """Parse a limit as a positive integer, or ``none``.

    Raises:
        BadParameter: *text* is neither.
    """
    if text == NO_LIMIT:
        return Limit(value=None)
    if not _COUNT.fullmatch(text) or int(text) == 0:
        raise typer.BadParameter(f"'{text}' is neither an integer of 1 or more nor '{NO_LIMIT}'.")
    return Limit(value=int(text))


def finite(number: float | None) -> float | None:
    """Refuse infinities and NaN; for ``callback=``.

    Raises:
        BadParameter: *number* is not finite.
    """
    if number is not None and not isfinite(number):
        raise typer.BadParameter(f"{number} is not a finite number.")
    return number


def day(text: str) -> str:
    """Parse a day, ``YYYY-MM-DD``.

    Raises:
        BadParameter: *text* is not a day.
    """
    if _DAY.fullmatch(text):
        try:
            return date.fromisoformat(text).isoformat()
        except ValueError:
            pass  # raised below
    raise typer.BadParameter(f"'{text}' is not a day such as 2026-01-31.")


def expiry(text: str) -> Expiry:
    """Parse an expiry: ``30d``, ``12h``, ``45m``, or a day, at whose start in UTC the key expires.

    Raises:
        BadParameter: *text* is neither.
    """
    if duration := _DURATION.fullmatch(text):
        number, unit = duration.groups()
        return Expiry(after_ms=int(number) * _UNIT_MS[unit])
    midnight = datetime.combine(date.fromisoformat(day(text)), time.min, UTC)
    return Expiry(at_ms=int(midnight.timestamp()) * 1000)


def shown_time(at_ms: int) -> str:
    """Format a Unix time in milliseconds: ``2026-01-31T12:00:00Z``."""
    return datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
