"""The price book."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from corral.catalog.cards import model_cards
from corral.catalog.catalog import demo_catalog
from corral.catalog.prices import read_price_book
from corral.core.errors import BadSetting

NOW_S = datetime(2026, 11, 21, tzinfo=UTC).timestamp()


def test_the_llama_prices_are_the_published_ones_in_nano_dollars_per_token() -> None:
    prices = {card.names[0]: card.prices[-1].price for card in model_cards()}
    assert {name: (price.input_nusd, price.output_nusd) for name, price in prices.items()} == {
        "corral/demo": (0, 0),
        "meta/llama-2-7b-chat": (50, 250),
        "meta/llama-2-13b-chat": (100, 500),
        "meta/llama-2-70b-chat": (650, 2750),
    }
    assert prices["meta/llama-2-70b-chat"].version == "meta/llama-2-70b-chat@2023-07-18"


def test_the_demo_model_is_free_under_every_name() -> None:
    assert {model.price_at(NOW_S).output_nusd for model in demo_catalog().models()} == {0}


def test_an_operators_prices_win_from_their_day_on(tmp_path: Path) -> None:
    book = tmp_path / "prices.toml"
    book.write_text(
        '[["Meta/llama-2-70b-chat"]]\nsince = 2026-01-01\ninput_usd_per_million = "1"\noutput_usd_per_million = "2"\n'
        '[["Meta/llama-2-70b-chat"]]\nsince = 2027-01-01\ninput_usd_per_million = 3\noutput_usd_per_million = "4.125"\n'
    )
    model = demo_catalog(read_price_book(book)).get("meta/llama-2-70b-chat")
    assert model.price_at(NOW_S).output_nusd == 2000
    assert model.price_at(NOW_S + 365 * 86400).output_nusd == 4125
    assert demo_catalog(read_price_book(book)).get("corral/demo").price_at(NOW_S).output_nusd == 0


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "a = 1",
        "[[a]]\nsince = 2026-01-01",
        '[[a]]\nsince = 1\ninput_usd_per_million = "1"\noutput_usd_per_million = "1"',
        '[[a]]\nsince = 2026-01-01\ninput_usd_per_million = "0.0001"\noutput_usd_per_million = "1"',
        '[[a]]\nsince = 2026-01-01\ninput_usd_per_million = "-1"\noutput_usd_per_million = "1"',
        '[[a]]\nsince = 2026-01-01\ninput_usd_per_million = "nan"\noutput_usd_per_million = "1"',
    ],
)
def test_a_price_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    book = tmp_path / "prices.toml"
    book.write_text(text)
    with pytest.raises(BadSetting):
        read_price_book(book)


def test_a_price_for_a_model_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    book = tmp_path / "prices.toml"
    book.write_text('[["meta/llama-2-7b"]]\nsince = 2026-01-01\ninput_usd_per_million = 1\noutput_usd_per_million = 1')
    with pytest.raises(BadSetting, match="meta/llama-2-7b"):
        demo_catalog(read_price_book(book))
