"""One catalog for several deployments: each name is held by one of them, and a stand-in yields."""

import json
from pathlib import Path

import pytest

from corral.catalog.catalog import DEMO, ServedCheckpoint, checkpoint_catalog, demo_checkpoint, served_catalog
from corral.core.errors import BadSetting

SEVEN = "meta/llama-2-7b-chat"
DEMO_CHECKPOINT = ServedCheckpoint(path=demo_checkpoint(), names=(DEMO,), stands_in=True)


def checkpoint(directory: Path, **config: object) -> Path:
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps({"max_position_embeddings": 64, **config}))
    return directory


def seven(directory: Path) -> Path:
    return checkpoint(directory, hidden_size=4096, num_hidden_layers=32)


def test_each_deployment_has_its_own_models_and_the_stand_in_has_the_rest(tmp_path: Path) -> None:
    tiny = ServedCheckpoint(path=checkpoint(tmp_path / "tiny"))
    named = ServedCheckpoint(deployment="seven", path=seven(tmp_path / "x"), names=(SEVEN,))
    catalog = served_catalog([tiny, named, DEMO_CHECKPOINT])
    owners = {model.id: (model.deployment, model.stands_in) for model in catalog.models()}
    assert owners["local/tiny"] == ("local/tiny", False)
    assert owners[SEVEN] == owners["meta-llama/Llama-2-7b-chat-hf"] == ("seven", False)
    assert owners[DEMO] == (DEMO, False)
    assert owners["meta/llama-2-13b-chat"] == (DEMO, True)
    assert catalog.get(SEVEN).price_at(0).output_nusd > 0
    assert catalog.get("meta/llama-2-13b-chat").price_at(0).output_nusd == 0


def test_configured_weights_win_over_the_stand_in_in_any_order(tmp_path: Path) -> None:
    named = ServedCheckpoint(path=seven(tmp_path / "x"), names=(SEVEN,))
    for order in ([DEMO_CHECKPOINT, named], [named, DEMO_CHECKPOINT]):
        assert served_catalog(order).get(SEVEN).deployment == SEVEN


def test_one_deployment_may_hold_several_names(tmp_path: Path) -> None:
    path = seven(tmp_path / "x")
    catalog = served_catalog([ServedCheckpoint(deployment="d", path=path, names=(SEVEN, "me/mine", "ME/mine"))])
    assert {model.deployment for model in catalog.models()} == {"d"}
    assert catalog.get("me/mine").stands_in is False


def test_catalog_of_one_deployment_equals_the_single_model_catalog(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "tiny")
    assert served_catalog([ServedCheckpoint(path=path)]).models() == checkpoint_catalog(path).models()


def test_two_deployments_of_one_name_are_refused(tmp_path: Path) -> None:
    both = [ServedCheckpoint(deployment=name, path=checkpoint(tmp_path / name)) for name in ("a", "A")]
    with pytest.raises(BadSetting, match=r"^Two deployments are called A; give each a name of its own\.$"):
        served_catalog(both)


def test_a_model_that_two_deployments_answer_to_is_refused_naming_both(tmp_path: Path) -> None:
    one = ServedCheckpoint(deployment="a", path=seven(tmp_path / "x"), names=(SEVEN,))
    other = ServedCheckpoint(deployment="b", path=seven(tmp_path / "y"), names=("META-llama/llama-2-7b-chat-HF",))
    with pytest.raises(BadSetting, match=f"^The deployments a and b both answer to {SEVEN}"):
        served_catalog([one, other])


def test_a_second_stand_in_is_refused(tmp_path: Path) -> None:
    other = ServedCheckpoint(deployment="b", path=checkpoint(tmp_path / "b"), stands_in=True)
    with pytest.raises(BadSetting, match=r"^stands_in: both corral/demo and b"):
        served_catalog([DEMO_CHECKPOINT, other])
