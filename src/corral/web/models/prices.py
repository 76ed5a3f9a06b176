"""Price table of a model's page."""

from dataclasses import dataclass
from math import floor, log10
from typing import Final

from corral.core.pricing import NUSD_PER_USD, Price, usd
from corral.web.formatting import compact

_PER_MILLION: Final = 10**6
_TIMES: Final = "\N{MULTIPLICATION SIGN}"
EXAMPLE_USD: Final = 10
EXAMPLE_INPUT_TOKENS: Final = 15
"""Tokens of a prompt of a sentence or two."""
EXAMPLE_OUTPUT_TOKENS: Final = 700
"""Tokens of an answer of a few paragraphs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceRow:
    """Price of one kind of token."""

    kind: str
    per_unit: str
    per_dollar: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceTable:
    """Price with an example."""

    rows: tuple[PriceRow, ...]
    runs: str
    """Number of predictions of the example size for ``EXAMPLE_USD``."""
    formula: str
    """How that number is computed."""


def price_table(price: Price) -> PriceTable | None:
    """Build the table of *price*; None if free."""
    if price.input_nusd == price.output_nusd == 0:
        return None
    one_nusd = price.cost_nusd(prompt_tokens=EXAMPLE_INPUT_TOKENS, completion_tokens=EXAMPLE_OUTPUT_TOKENS)
    input_usd, output_usd = usd(price.input_nusd), usd(price.output_nusd)
    return PriceTable(
        rows=(_row("Input", price.input_nusd), _row("Output", price.output_nusd)),
        runs=f"{EXAMPLE_USD * NUSD_PER_USD // one_nusd:,}",
        formula=f"${EXAMPLE_USD} ÷ ({EXAMPLE_INPUT_TOKENS} {_TIMES} ${input_usd} + {EXAMPLE_OUTPUT_TOKENS} {_TIMES} "
        f"${output_usd})",
    )


def _row(kind: str, nusd: int) -> PriceRow:
    if nusd == 0:
        return PriceRow(kind=kind, per_unit="free", per_dollar="")
    amount = usd(nusd * _PER_MILLION)
    whole, _, cents = amount.partition(".")
    return PriceRow(
        kind=kind,
        per_unit=f"${whole}.{cents.ljust(2, '0')} / 1M tokens",
        per_dollar=f"{compact(_two_digits(NUSD_PER_USD / nusd))} tokens / $1",
    )


def _two_digits(number: float) -> float:
    """Round *number* to two significant digits."""
    return round(number, 1 - floor(log10(number)))
