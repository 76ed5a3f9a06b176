"""Figures as a person reads them. Pure."""

from typing import Final

_UNITS: Final = ((10**9, "B"), (10**6, "M"), (10**3, "K"))


def compact(number: float) -> str:
    """A count in a few characters, rounded to one digit after the point: ``9.2M``, ``360K``, ``17``."""
    for size, unit in _UNITS:
        if number >= size:
            return f"{number / size:.1f}".removesuffix(".0") + unit
    return f"{number:.0f}"
