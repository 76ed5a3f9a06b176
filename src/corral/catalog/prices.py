"""The price book: dated prices as data, from the catalog's own files and from the operator's."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

from corral.core.errors import BadSetting
from corral.core.pricing import Price, nusd_per_token


@dataclass(frozen=True, slots=True, kw_only=True)
class DatedPrice:
    """A price and when it begins; old runs keep theirs."""

    since_s: float
    """Unix time in seconds, midnight UTC of the day in the file."""
    price: Price


PriceBook = Mapping[str, tuple[DatedPrice, ...]]
"""Prices by model name in lower case, oldest first."""


def free_of_charge(name: str) -> DatedPrice:
    """The price of weights that nobody has put a price on."""
    return DatedPrice(since_s=0, price=Price(version=f"{name}@free", input_nusd=0, output_nusd=0))


def dated_prices(name: str, tables: list[dict[str, Any]]) -> tuple[DatedPrice, ...]:
    """Prices from tables with ``since``, ``input_usd_per_million`` and ``output_usd_per_million``; oldest first.

    Raises:
        BadSetting: a key is missing or unknown, a date is none, or a price is not exact.
    """
    return tuple(sorted((_dated_price(name, table) for table in tables), key=lambda dated: dated.since_s))


def _dated_price(name: str, table: dict[str, Any]) -> DatedPrice:
    expected = {"since", "input_usd_per_million", "output_usd_per_million"}
    if table.keys() != expected:
        raise BadSetting(f"The prices of {name} need exactly the keys {', '.join(sorted(expected))}.")
    since = table["since"]
    if type(since) is not date:
        raise BadSetting(f"The prices of {name}: since must be a date such as 2026-01-31, not {since!r}.")
    return DatedPrice(
        since_s=datetime.combine(since, time.min, UTC).timestamp(),
        price=Price(
            version=f"{name}@{since.isoformat()}",
            input_nusd=nusd_per_token(str(table["input_usd_per_million"])),
            output_nusd=nusd_per_token(str(table["output_usd_per_million"])),
        ),
    )


def read_price_book(path: Path) -> PriceBook:
    """The operator's own prices: a TOML file with one array of tables per model name.

    Raises:
        BadSetting: the file cannot be read or a price in it is not one.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadSetting(f"prices: {path} cannot be read: {error}") from error
    if not all(isinstance(tables, list) for tables in document.values()):
        raise BadSetting(f'prices: {path} must hold arrays of tables, such as [["corral/demo"]].')
    return {name.lower(): dated_prices(name, tables) for name, tables in document.items()}
