"""Formatting of numbers and amounts."""

import pytest

from corral.web.formatting import compact, money


@pytest.mark.parametrize(("number", "text"), [(0, "0"), (999, "999"), (9_240_000, "9.2M"), (360_000, "360K")])
def test_counts_are_short(number: float, text: str) -> None:
    assert compact(number) == text


@pytest.mark.parametrize(
    ("nusd", "text"), [(100_000_000, "$0.10"), (92_400, "$0.0000924"), (12_000_000_000, "$12.00"), (0, "$0.00")]
)
def test_amounts_have_cents_and_nothing_is_rounded_away(nusd: int, text: str) -> None:
    assert money(nusd) == text
