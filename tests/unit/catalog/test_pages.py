"""Model pages: complete, safe to show, and true of the served weights."""

import json
import re
from importlib.resources import files
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from corral.api.doors.replicate.input_table import INPUTS
from corral.catalog.cards import card_from_table, model_cards
from corral.catalog.catalog import checkpoint_catalog, demo_catalog
from corral.catalog.page import local_page
from corral.core.errors import BadSetting

SEVENTY = "meta/llama-2-70b-chat"
HEADINGS = [
    "## How to prompt Llama 2 chat",
    "### Formatting prompts for chat interfaces",
    "### Modifying the system prompt",
]
COVERS = sorted(
    entry.name for entry in files("corral.catalog").joinpath("pages").iterdir() if entry.name.endswith(".svg")
)
DRAWING = {"svg", "g", "rect", "circle", "path"}


def test_every_model_has_a_page_with_readme_cover_and_examples() -> None:
    for model in demo_catalog().models():
        page = model.page
        assert len(page.readme) > 500
        assert b"<svg" in page.cover()
        assert 3 <= len(page.examples) <= 4
        assert "text-generation" in page.tags


@pytest.mark.parametrize("size", ["7", "13", "70"])
def test_a_llama_page_says_what_its_public_page_said(size: str) -> None:
    page = demo_catalog().get(f"meta/llama-2-{size}b-chat").page
    assert (
        f"This is the repository for the {size} billion parameter chat model, which has been fine-tuned" in page.readme
    )
    assert re.findall("^#+ .*$", page.readme, re.MULTILINE) == HEADINGS
    assert "[INST] Hi! [/INST]\nHello! How are you?\n[INST] I'm great, thanks for asking." in page.readme
    assert page.is_official
    assert page.github_url == "https://github.com/a16z-infra/cog-llama-template"
    assert page.paper_url == "https://arxiv.org/abs/2307.09288"
    assert page.license_url == "https://ai.meta.com/resources/models-and-libraries/llama-downloads/"


def test_the_demo_models_page_says_that_it_is_not_llama() -> None:
    page = demo_catalog().get("corral/demo").page
    assert "is **not** Llama 2" in page.readme
    assert not page.is_official


@pytest.mark.parametrize("name", COVERS)
def test_cover_is_a_small_svg_without_scripts_or_links(name: str) -> None:
    text = files("corral.catalog").joinpath("pages", name).read_text(encoding="utf-8")
    root = ET.fromstring(text)
    assert len(text) < 3000
    assert {element.tag.rpartition("}")[2] for element in root.iter()} <= DRAWING
    attributes = {name for element in root.iter() for name in element.attrib}
    assert not [name for name in attributes if name.startswith("on") or name.endswith(("href", "style"))]
    assert "url(" not in text
    assert "<!" not in text


def test_no_two_models_share_a_cover() -> None:
    covers = [card.page.cover_image for card in model_cards()]
    assert len({*covers, "local.svg"}) == len(covers) + 1 == len(COVERS)


def test_examples_of_other_weights_are_not_shown(tmp_path: Path) -> None:
    config = {"hidden_size": 8192, "num_hidden_layers": 80}
    (tmp_path / "config.json").write_text(json.dumps(config))
    served = checkpoint_catalog(tmp_path, name=SEVENTY).get(SEVENTY)
    assert served.page.examples == ()
    assert served.page.readme == demo_catalog().get(SEVENTY).page.readme
    assert len(checkpoint_catalog(tmp_path).get(f"local/{tmp_path.name}").page.readme) > 100


def test_a_directory_name_cannot_leave_its_place_in_the_readme() -> None:
    assert "`a' $name <b>`" in local_page("a` $name <b>").readme


def test_examples_are_complete_records() -> None:
    for model in demo_catalog().models():
        known = {field.name: field for field in INPUTS.for_model(model)}
        for example in model.page.examples:
            assert re.fullmatch("[0-9a-z]{26}", example.id)
            assert example.input.keys() <= known.keys()
            assert 0 < len(example.output) <= example.completion_tokens
            times = (example.created_at_ms, example.admitted_at_ms, example.started_at_ms, example.completed_at_ms)
            assert list(times) == sorted(times)
            assert 0 < example.seed < 2**53


def test_the_poem_of_the_public_page_is_among_the_examples() -> None:
    first, *_ = demo_catalog().get(SEVENTY).page.examples
    assert first.input == {"prompt": "Write a poem about open source machine learning in the style of E. E. Cummings"}


def test_a_name_may_have_a_description_of_its_own() -> None:
    catalog = demo_catalog()
    assert catalog.get(SEVENTY).description.startswith("A 70 billion parameter language model from Meta")
    assert catalog.get("meta-llama/Llama-2-70b-chat-hf").description.startswith("LLaMa 2 is a collections of LLMs")


def complete_card() -> dict[str, object]:
    return {
        "names": ["a/b"],
        "description": "",
        "context_tokens": 1,
        "created": 0,
        "hidden_size": 1,
        "num_hidden_layers": 1,
        "prices": [],
        "page": {"readme": "demo.md", "cover_image": "demo.svg"},
    }


def test_a_complete_card_is_read() -> None:
    assert card_from_table(complete_card(), where="card.toml").names == ("a/b",)
    own = {"temperature": 0.5, "max_tokens": 100, "system_prompt": "Be brief."}
    assert card_from_table(complete_card() | {"input_defaults": own}, where="card.toml").input_defaults == own


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"colour": "red"}, "colour"),
        ({"names": []}, "names"),
        ({"page": {"readme": "demo.md", "cover_image": "demo.svg", "rating": 5}}, "rating"),
        ({"page": {"readme": "demo.md"}}, "cover_image"),
        ({"page": {"readme": "llama-2-chat.md", "cover_image": "demo.svg"}}, "parameters"),
        ({"descriptions": {"c/d": ""}}, "c/d"),
        ({"known_versions": [{"name": "a/b", "id": "0"}]}, "created"),
        ({"input_defaults": {"top_p": 2}}, "2 is no value of top_p"),
        ({"input_defaults": {"top_k": True}}, "True is no value of top_k"),
        ({"input_defaults": {"max_tokens": 0}}, "0 is no value of max_tokens"),
        ({"input_defaults": {"system_prompt": 1}}, "1 is no value of system_prompt"),
        ({"input_defaults": {"top_q": 1}}, "top_q; the inputs are system_prompt, max_tokens, temperature"),
    ],
)
def test_invalid_card_field_is_rejected_by_name(changes: dict[str, object], named: str) -> None:
    with pytest.raises(BadSetting, match=named):
        card_from_table(complete_card() | changes, where="card.toml")
