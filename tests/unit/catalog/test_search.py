"""Catalog search: by words, by collection, with list prices."""

from pathlib import Path

import pytest

from corral.catalog.catalog import Catalog, demo_catalog
from corral.catalog.model import CatalogModel
from corral.catalog.page import ModelPage
from corral.catalog.prices import free_of_charge, read_price_book

NOW_S = 1_800_000_000


def model(name: str, description: str = "", *tags: str) -> CatalogModel:
    return CatalogModel(
        id=name,
        owner=name.partition("/")[0],
        description=description,
        context_tokens=1,
        created=0,
        deployment="",
        weights="",
        stands_in=False,
        prices=(free_of_charge(name),),
        page=ModelPage(tags=tags),
    )


def found(text: str, *models: CatalogModel) -> list[str]:
    return [match.id for match in Catalog(models).search(text)]


def test_a_name_counts_more_than_a_tag_and_a_tag_more_than_a_description() -> None:
    models = (
        model("a/one", "eats llama food"), model("b/two", "", "llama"), model("llama/three"),
        model("c/llama-4"), model("d/llama"), model("e/six"),
    )  # fmt: skip
    assert found("LLAMA", *models) == ["d/llama", "c/llama-4", "llama/three", "b/two", "a/one"]


def test_every_word_must_occur_somewhere() -> None:
    assert [match.id for match in demo_catalog().search("llama 70b")] == [
        "meta/llama-2-70b-chat", "meta-llama/Llama-2-70b-chat-hf",
    ]  # fmt: skip
    assert demo_catalog().search("llama zebra") == ()


def test_equal_matches_stay_in_the_catalogs_order() -> None:
    assert found("m", model("a/m-2"), model("a/m-1")) == ["a/m-2", "a/m-1"]


@pytest.mark.parametrize("blank", ["", "  \n"])
def test_empty_search_returns_every_model(blank: str) -> None:
    assert demo_catalog().search(blank) == demo_catalog().models()


def test_long_search_uses_only_its_first_words() -> None:
    assert found("m " * 1_000_000 + "zebra", model("a/m")) == ["a/m"]


def test_collections_hold_the_served_models_that_belong_together() -> None:
    collections = {collection.slug: collection for collection in demo_catalog().collections()}
    assert list(collections) == ["language-models", "llama-2"]
    assert collections["language-models"].models == demo_catalog().models()
    assert {served.id for served in collections["llama-2"].models} == {
        served.id for served in demo_catalog().models() if served.owner.startswith("meta")
    }
    assert all(collection.name and collection.description for collection in collections.values())


def test_empty_collection_is_not_listed() -> None:
    assert [collection.slug for collection in Catalog([model("a/b", "", "llama-2")]).collections()] == ["llama-2"]
    assert Catalog([model("a/b")]).collections() == ()


def test_list_price_is_that_of_the_card_while_the_stand_in_is_free() -> None:
    seventy = demo_catalog().get("meta/llama-2-70b-chat")
    assert seventy.price_at(NOW_S).output_nusd == 0
    assert (seventy.list_price_at(NOW_S).input_nusd, seventy.list_price_at(NOW_S).output_nusd) == (650, 2750)


def test_the_operators_own_price_is_the_list_price_too(tmp_path: Path) -> None:
    book = tmp_path / "prices.toml"
    book.write_text(
        '[["corral/demo"]]\nsince = 2026-01-01\ninput_usd_per_million = "1"\noutput_usd_per_million = "2"\n'
    )
    demo = demo_catalog(read_price_book(book)).get("corral/demo")
    assert demo.list_price_at(NOW_S) == demo.price_at(NOW_S)
    assert demo.price_at(NOW_S).output_nusd == 2000


def test_without_list_prices_what_is_charged_is_the_list_price() -> None:
    assert model("a/b").list_price_at(NOW_S) == model("a/b").price_at(NOW_S)
