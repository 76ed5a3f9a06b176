"""Prices on a model's page."""

import pytest

from corral.core.pricing import Price
from corral.web.models.prices import PriceRow, price_table


def price(input_nusd: int, output_nusd: int) -> Price:
    return Price(version="any", input_nusd=input_nusd, output_nusd=output_nusd)


def test_the_70b_model_has_the_table_of_its_own_page() -> None:
    table = price_table(price(650, 2750))
    assert table is not None
    assert table.rows == (
        PriceRow(kind="Input", per_unit="$0.65 / 1M tokens", per_dollar="1.5M tokens / $1"),
        PriceRow(kind="Output", per_unit="$2.75 / 1M tokens", per_dollar="360K tokens / $1"),
    )


@pytest.mark.parametrize(
    ("input_nusd", "output_nusd", "runs"), [(650, 2750, "5,168"), (100, 500, "28,449"), (50, 250, "56,899")]
)
def test_ten_dollar_estimate_counts_input_and_output_tokens(input_nusd: int, output_nusd: int, runs: str) -> None:
    table = price_table(price(input_nusd, output_nusd))
    assert table is not None
    assert table.runs == runs
    assert 10 * 10**9 // (15 * input_nusd + 700 * output_nusd) == int(runs.replace(",", ""))


def test_price_formula_shows_its_numbers() -> None:
    table = price_table(price(650, 2750))
    assert table is not None
    assert table.formula.replace("\N{MULTIPLICATION SIGN}", "*") == "$10 ÷ (15 * $0.00000065 + 700 * $0.00000275)"


@pytest.mark.parametrize(
    ("nusd", "per_dollar"),
    [(50, "20M"), (250, "4M"), (100, "10M"), (500, "2M"), (1, "1B"), (3, "330M"), (10**9, "1"), (10**6, "1K")],
)
def test_tokens_per_dollar_have_two_digits(nusd: int, per_dollar: str) -> None:
    table = price_table(price(nusd, nusd))
    assert table is not None
    assert table.rows[0].per_dollar == f"{per_dollar} tokens / $1"


def test_a_free_model_has_no_table_and_a_free_side_says_so() -> None:
    assert price_table(price(0, 0)) is None
    table = price_table(price(0, 5))
    assert table is not None
    assert table.rows[0].per_unit == "free"
