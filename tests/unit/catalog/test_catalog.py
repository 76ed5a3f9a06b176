"""Served names and their weights."""

import json
from pathlib import Path

import pytest

from corral.catalog.catalog import checkpoint_catalog, demo_catalog, demo_checkpoint
from corral.catalog.identity import suggest_name
from corral.checkpoints.source import open_source
from corral.core.errors import BadSetting, CheckpointRefused, UnknownModel

LLAMA_NAMES = {
    f"{owner}{size}b-chat{suffix}"
    for size in (7, 13, 70)
    for owner, suffix in [("meta/llama-2-", ""), ("meta-llama/Llama-2-", "-hf")]
}

SHAPE_7B = {"hidden_size": 4096, "num_hidden_layers": 32, "max_position_embeddings": 4096}


def checkpoint(directory: Path, **config: object) -> Path:
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(config))
    return directory


def test_the_demo_model_stands_in_for_all_six_llama_names_and_says_so() -> None:
    models = {model.id: model for model in demo_catalog().models()}
    assert models.keys() == LLAMA_NAMES | {"corral/demo"}
    assert all(model.weights == "demo" for model in models.values())
    assert {name for name, model in models.items() if model.stands_in} == LLAMA_NAMES


def test_model_names_are_case_insensitive() -> None:
    assert demo_catalog().get("META-LLAMA/llama-2-7B-chat-hf").id == "meta-llama/Llama-2-7b-chat-hf"


def test_unknown_model_error_names_it() -> None:
    with pytest.raises(UnknownModel, match="gpt-4"):
        demo_catalog().get("gpt-4")


def test_the_shape_of_llama_2_7b_gives_a_checkpoint_no_name_of_that_model(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "mine", **SHAPE_7B, _name_or_path="meta-llama/Llama-2-7b-chat-hf")
    (model,) = checkpoint_catalog(path).models()
    assert (model.id, model.stands_in, model.price_at(0).output_nusd) == ("local/mine", False, 0)


def test_configured_model_name_gives_a_checkpoint_its_aliases_and_price(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "mine", **SHAPE_7B)
    models = checkpoint_catalog(path, name="meta/llama-2-7b-chat").models()
    assert [model.id for model in models] == ["meta/llama-2-7b-chat", "meta-llama/Llama-2-7b-chat-hf"]
    assert {(model.stands_in, model.price_at(0).output_nusd) for model in models} == {(False, 250)}


def test_the_context_shown_is_the_checkpoints_own(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "mine", **SHAPE_7B | {"max_position_embeddings": 2048})
    models = checkpoint_catalog(path, name="meta/llama-2-7b-chat", stands_in=True).models()
    assert {model.context_tokens for model in models} == {2048}


def test_a_snapshot_in_the_hub_cache_answers_to_the_repository_it_is_of(tmp_path: Path) -> None:
    tiny = {"hidden_size": 64, "num_hidden_layers": 2}
    for folder, config, names in (
        ("models--meta-llama--Llama-2-7b-chat-hf", SHAPE_7B, ["meta/llama-2-7b-chat", "meta-llama/Llama-2-7b-chat-hf"]),
        ("models--acme--tiny-chat", tiny, ["acme/tiny-chat"]),
        ("datasets--acme--tiny-chat", tiny, ["local/0123"]),
    ):
        (tmp_path / folder / "snapshots").mkdir(parents=True)
        path = checkpoint(tmp_path / folder / "snapshots" / "0123", **config)
        assert [model.id for model in checkpoint_catalog(path).models()] == names


def test_a_stand_in_is_free_and_marked_and_holds_its_own_name(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "tiny", hidden_size=64, num_hidden_layers=2, max_position_embeddings=128)
    own, *others = checkpoint_catalog(path, stands_in=True).models()
    assert (own.id, own.stands_in) == ("local/tiny", False)
    assert {model.id for model in others} == LLAMA_NAMES
    assert {(model.stands_in, model.price_at(0).output_nusd, model.weights) for model in others} == {(True, 0, "tiny")}


def test_stand_in_keeps_names_proved_by_its_weights(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "mine", **SHAPE_7B)
    models = checkpoint_catalog(path, name="meta/llama-2-7b-chat", stands_in=True).models()
    held = {"meta/llama-2-7b-chat", "meta-llama/Llama-2-7b-chat-hf"}
    assert {model.id for model in models if not model.stands_in} == held
    assert {model.id for model in models if model.stands_in} == LLAMA_NAMES - held


def test_only_a_shape_that_fits_suggests_a_known_model(tmp_path: Path) -> None:
    fine_tune = open_source(checkpoint(tmp_path / "vicuna", **SHAPE_7B)).read_config()
    other = open_source(checkpoint(tmp_path / "tiny", hidden_size=64, num_hidden_layers=2)).read_config()
    assert (suggest_name(fine_tune), suggest_name(other)) == ("meta/llama-2-7b-chat", None)


def test_the_name_of_the_shipped_demo_is_never_suggested() -> None:
    assert suggest_name(open_source(demo_checkpoint()).read_config()) is None


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


def test_weights_that_cannot_be_the_model_they_are_named_are_refused_or_stand_in(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "0123", hidden_size=64, num_hidden_layers=2, max_position_embeddings=128)
    said = r"cannot be meta/llama-2-7b-chat: hidden_size in config\.json is 64; .* 4096.*--as local/llama-2"
    with pytest.raises(BadSetting, match=said):
        checkpoint_catalog(path, name="meta/llama-2-7b-chat")
    models = checkpoint_catalog(path, name="meta/llama-2-7b-chat", stands_in=True).models()
    assert [model.id for model in models if not model.stands_in] == ["local/llama-2-7b-chat"]
    assert {model.id for model in models if model.stands_in} == LLAMA_NAMES
