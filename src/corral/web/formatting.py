"""Format numbers for people."""

from typing import Final

from corral.core.pricing import usd

_UNITS: Final = ((10**9, "B"), (10**6, "M"), (10**3, "K"))


def compact(number: float) -> str:
    """Format a count with one digit after the point: ``9.2M``, ``360K``, ``17``."""
    for size, unit in _UNITS:
        if number >= size:
            return f"{number / size:.1f}".removesuffix(".0") + unit
    return f"{number:.0f}"


def money(nusd: int) -> str:
    """Format dollars exactly, with cents if they are whole: ``$0.10``, ``$0.0000924``."""
    whole, _, cents = usd(nusd).partition(".")
    return f"${whole}.{cents.ljust(2, '0')}"
