"""What is typed on a command line, read exactly: dollars, limits, days, expiries. A bad one is a usage error.

Money becomes integer nano-dollars, never by way of a float.
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
    """A limit that was given; None takes a limit away."""

    value: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiry:
    """When a key expires: at a time, or some time from now."""

    at_ms: int | None = None
    """Unix milliseconds."""
    after_ms: int = 0

    def resolve(self, now_ms: int) -> int:
        """The time, in Unix milliseconds."""
        return now_ms + self.after_ms if self.at_ms is None else self.at_ms


def signed_usd(text: str) -> int:
    """Nano-dollars of a decimal amount in dollars, which may be negative.

    Raises:
        BadParameter: no such amount, finer than a nano-dollar, or beyond what may be typed.
    """
    try:
        return parse_usd(text)
    except InvalidRequest as refused:
        raise typer.BadParameter(str(refused)) from None


def usd_amount(text: str) -> int:
    """Nano-dollars of a decimal amount in dollars that is not negative.

    Raises:
        BadParameter: as ``signed_usd`` does, and for a negative amount.
    """
    amount_nusd = signed_usd(text)
    if amount_nusd < 0:
        raise typer.BadParameter(f"'{text}' is negative.")
    return amount_nusd


def usd_limit(text: str) -> Limit:
    """A limit in dollars, or ``none``.

    Raises:
        BadParameter: as ``usd_amount`` does.
    """
    return Limit(value=None if text == NO_LIMIT else usd_amount(text))


def count_limit(text: str) -> Limit:
    """A limit as a whole number from 1 on, or ``none``.

    Raises:
        BadParameter: neither.
    """
    if text == NO_LIMIT:
        return Limit(value=None)
    if not _COUNT.fullmatch(text) or int(text) == 0:
        raise typer.BadParameter(f"'{text}' is neither a whole number from 1 on nor '{NO_LIMIT}'.")
    return Limit(value=int(text))


def finite(number: float | None) -> float | None:
    """*number*, which is not an infinity and not NaN; for ``callback=``.

    Raises:
        BadParameter: it is one of them.
    """
    if number is not None and not isfinite(number):
        raise typer.BadParameter(f"{number} is not a finite number.")
    return number


def day(text: str) -> str:
    """A day as ``YYYY-MM-DD``.

    Raises:
        BadParameter: no such day.
    """
    if _DAY.fullmatch(text):
        try:
            return date.fromisoformat(text).isoformat()
        except ValueError:
            pass  # told below
    raise typer.BadParameter(f"'{text}' is no day such as 2026-01-31.")


def expiry(text: str) -> Expiry:
    """When a key expires: ``30d``, ``12h``, ``45m``, or the day at whose beginning in UTC it does.

    Raises:
        BadParameter: neither.
    """
    if duration := _DURATION.fullmatch(text):
        number, unit = duration.groups()
        return Expiry(after_ms=int(number) * _UNIT_MS[unit])
    midnight = datetime.combine(date.fromisoformat(day(text)), time.min, UTC)
    return Expiry(at_ms=int(midnight.timestamp()) * 1000)


def shown_time(at_ms: int) -> str:
    """A Unix time in milliseconds for people and programs: ``2026-01-31T12:00:00Z``."""
    return datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
