"""The price book: dated prices as data, from the catalog's own files and from the operator's."""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any, cast

from corral.core.errors import BadSetting
from corral.core.pricing import Price, nusd_per_token


@dataclass(frozen=True, slots=True, kw_only=True)
class DatedPrice:
    """A price and its start; earlier runs keep their price."""

    since_s: float
    """Unix time in seconds, midnight UTC of the day in the file."""
    price: Price


PriceBook = Mapping[str, tuple[DatedPrice, ...]]
"""Prices by model name in lower case, oldest first."""


def free_of_charge(name: str) -> DatedPrice:
    """Zero price, for models without an entry in the price book."""
    return DatedPrice(since_s=0, price=Price(version=f"{name}@free", input_nusd=0, output_nusd=0))


def dated_prices(name: str, tables: list[dict[str, Any]]) -> tuple[DatedPrice, ...]:
    """Prices from tables with ``since``, ``input_usd_per_million`` and ``output_usd_per_million``; oldest first.

    Raises:
        BadSetting: a key is missing or unknown, a date is none, or a price is not exact; names model, table and key.
    """
    prices = [_dated_price(name, table, f'[["{name}"]] number {at}') for at, table in enumerate(tables, start=1)]
    days = [dated.since_s for dated in prices]
    if len(set(days)) < len(days):
        raise BadSetting(f'[["{name}"]]: two prices begin on the same day (since).')
    return tuple(sorted(prices, key=lambda dated: dated.since_s))


def _dated_price(name: str, table: dict[str, Any], where: str) -> DatedPrice:
    expected = {"since", "input_usd_per_million", "output_usd_per_million"}
    if missing := expected - table.keys():
        raise BadSetting(f"{where}: {', '.join(sorted(missing))} is missing.")
    if unknown := table.keys() - expected:
        raise BadSetting(
            f"{where}: there is no key {', '.join(sorted(unknown))}; a price has {', '.join(sorted(expected))}."
        )
    since = table["since"]
    if type(since) is not date:
        raise BadSetting(f"{where}: since must be a date such as 2026-01-31 without quotes, not {since!r}.")
    return DatedPrice(
        since_s=datetime.combine(since, time.min, UTC).timestamp(),
        price=Price(
            version=f"{name}@{since.isoformat()}",
            input_nusd=_price(table, "input_usd_per_million", where),
            output_nusd=_price(table, "output_usd_per_million", where),
        ),
    )


def _price(table: dict[str, Any], key: str, where: str) -> int:
    try:
        return nusd_per_token(str(table[key]))
    except BadSetting as error:
        raise BadSetting(f"{where}: {key}: {error}") from None


def read_price_book(path: Path) -> PriceBook:
    """The operator's own prices: a TOML file with one array of tables per model name.

    Raises:
        BadSetting: the file cannot be read or a price in it is not one; names file, model and key.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadSetting(f"prices: {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise BadSetting(f"prices: {path} is not TOML in UTF-8: {error}.") from error
    try:
        _check_names(document)
        return {name.lower(): dated_prices(name, _tables(name, tables)) for name, tables in document.items()}
    except BadSetting as error:
        raise BadSetting(f"prices: {path}: {error}") from None


def _check_names(names: Iterable[str]) -> None:
    spellings: dict[str, str] = {}
    for name in names:
        if (other := spellings.setdefault(name.lower(), name)) != name:
            raise BadSetting(f'[["{other}"]] and [["{name}"]] name the same model; use one spelling.')


def _tables(name: str, value: object) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in cast("list[Any]", value)):
        raise BadSetting(f'{name} must be an array of tables, each under a line [["{name}"]].')
    return cast("list[dict[str, Any]]", value)
