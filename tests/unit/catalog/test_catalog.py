"""Which names are served, and what is said about what stands behind them."""

import json
from pathlib import Path

import pytest

from corral.catalog.catalog import checkpoint_catalog, demo_catalog
from corral.core.errors import CheckpointRefused, UnknownModel

LLAMA_NAMES = {
    f"{owner}{size}b-chat{suffix}"
    for size in (7, 13, 70)
    for owner, suffix in [("meta/llama-2-", ""), ("meta-llama/Llama-2-", "-hf")]
}


def checkpoint(directory: Path, **config: object) -> Path:
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(config))
    return directory


def test_the_demo_model_stands_in_for_all_six_llama_names_and_says_so() -> None:
    models = {model.id: model for model in demo_catalog().models()}
    assert models.keys() == LLAMA_NAMES | {"corral/demo"}
    assert all(model.weights == "demo" for model in models.values())
    assert {name for name, model in models.items() if model.stands_in} == LLAMA_NAMES


def test_names_are_found_whatever_their_case() -> None:
    assert demo_catalog().get("META-LLAMA/llama-2-7B-chat-hf").id == "meta-llama/Llama-2-7b-chat-hf"


def test_an_unknown_name_is_named_in_the_error() -> None:
    with pytest.raises(UnknownModel, match="gpt-4"):
        demo_catalog().get("gpt-4")


def test_a_checkpoint_of_the_7b_shape_answers_to_the_7b_names_and_to_its_own(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "mine", hidden_size=4096, num_hidden_layers=32, max_position_embeddings=4096)
    models = checkpoint_catalog(path).models()
    assert [model.id for model in models] == [
        "local/mine", "meta/llama-2-7b-chat", "meta-llama/Llama-2-7b-chat-hf",
    ]  # fmt: skip
    assert not any(model.stands_in for model in models)


def test_a_checkpoint_of_another_shape_answers_to_its_own_name_only(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "tiny", hidden_size=64, num_hidden_layers=2, max_position_embeddings=128)
    (model,) = checkpoint_catalog(path).models()
    assert (model.id, model.context_tokens) == ("local/tiny", 128)


@pytest.mark.parametrize("content", [None, "{", "[]", "[" * 100_000])
def test_a_directory_without_a_readable_config_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(CheckpointRefused, match=r"config\.json"):
        checkpoint_catalog(tmp_path)


def test_a_registered_checkpoint_answers_to_its_name_instead_of_its_directorys(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "0123", hidden_size=64, num_hidden_layers=2, max_position_embeddings=128)
    (model,) = checkpoint_catalog(path, name="somebody/tiny").models()
    assert (model.id, model.owner, model.weights, model.stands_in) == ("somebody/tiny", "somebody", "tiny", False)


def test_a_registered_known_model_answers_to_all_its_names(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "0123", hidden_size=4096, num_hidden_layers=32, max_position_embeddings=4096)
    models = checkpoint_catalog(path, name="meta-llama/Llama-2-7b-chat-hf").models()
    assert [model.id for model in models] == ["meta/llama-2-7b-chat", "meta-llama/Llama-2-7b-chat-hf"]
    assert not any(model.stands_in for model in models)


def test_another_model_registered_under_a_known_name_only_stands_in_for_it(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "0123", hidden_size=64, num_hidden_layers=2, max_position_embeddings=128)
    models = checkpoint_catalog(path, name="meta/llama-2-7b-chat").models()
    assert {model.id for model in models} == {"meta/llama-2-7b-chat", "meta-llama/Llama-2-7b-chat-hf"}
    assert all(model.stands_in for model in models)
