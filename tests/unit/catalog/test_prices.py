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
        "HuggingFaceTB/SmolLM2-135M-Instruct": (0, 0),
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


DAY = "since = 2026-01-01"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x", "is not TOML in UTF-8: "),
        ("a = 1", 'a must be an array of tables, each under a line [["a"]].'),
        ("a = [1]", 'a must be an array of tables, each under a line [["a"]].'),
        ("[a]\nx = 1", 'a must be an array of tables, each under a line [["a"]].'),
        (f"[[a]]\n{DAY}", '[["a"]] number 1: input_usd_per_million, output_usd_per_million is missing.'),
        (
            f"[[a]]\n{DAY}\ninput_usd_per_million = 1\noutput_usd_per_million = 1\ncached = 1",
            '[["a"]] number 1: there is no key cached; a price has',
        ),
        (
            "[[a]]\nsince = 1\ninput_usd_per_million = 1\noutput_usd_per_million = 1",
            '[["a"]] number 1: since must be a date such as 2026-01-31 without quotes, not 1.',
        ),
        (
            2 * f"[[a]]\n{DAY}\ninput_usd_per_million = 1\noutput_usd_per_million = 1\n",
            '[["a"]]: two prices begin on the same day (since).',
        ),
        ("[[a]]\n[[A]]", '[["a"]] and [["A"]] name the same model; use one spelling.'),
        *(
            (
                f"[[a]]\n{DAY}\ninput_usd_per_million = 1\noutput_usd_per_million = 1\n"
                f'[[a]]\n{DAY}\ninput_usd_per_million = 1\noutput_usd_per_million = "{price}"',
                f"""[["a"]] number 2: output_usd_per_million: '{price}' is not a price: give dollars per million""",
            )
            for price in ("0.0001", "-1", "nan", "inf", "cheap", "", "1000000.001", "1e30", "9e999999999999999999")
        ),
    ],
)
def test_a_bad_price_is_refused_by_file_table_and_key(tmp_path: Path, text: str, said: str) -> None:
    book = tmp_path / "prices.toml"
    book.write_text(text)
    with pytest.raises(BadSetting) as caught:
        read_price_book(book)
    assert str(caught.value).startswith(f"prices: {book}")
    assert said in str(caught.value)


def test_highest_price_does_not_overflow_a_bill(tmp_path: Path) -> None:
    book = tmp_path / "prices.toml"
    book.write_text(f"[[a]]\n{DAY}\ninput_usd_per_million = 1\noutput_usd_per_million = 1000000")
    (dated,) = read_price_book(book)["a"]
    assert dated.price.cost_nusd(prompt_tokens=0, completion_tokens=2**32) < 2**63


def test_a_price_for_a_model_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    book = tmp_path / "prices.toml"
    book.write_text('[["meta/llama-2-7b"]]\nsince = 2026-01-01\ninput_usd_per_million = 1\noutput_usd_per_million = 1')
    with pytest.raises(BadSetting, match="meta/llama-2-7b"):
        demo_catalog(read_price_book(book))
