"""A version stands for the weights that answer, and public ids lead to it."""

import json
import shutil
import time
from pathlib import Path

import pytest

from corral.catalog.catalog import checkpoint_catalog, demo_catalog, demo_checkpoint
from corral.catalog.versions import weights_digest
from corral.core.errors import CheckpointRefused, UnknownModel

KNOWN = {
    "meta/llama-2-7b-chat": "13c3cdee13ee059ab779f0291d29054dab00a47dad8261375654de5540165fb0",
    "meta/llama-2-13b-chat": "f4e2de70d66816a838a89eeeb621910adffb0dd0baba3976c96980970978018d",
    "meta/llama-2-70b-chat": "02e509c789964a7ea8736978a43525956ef40397be9033abf9fd2badfe68c9e3",
    "meta-llama/Llama-2-70b-chat-hf": "9ff8b00464fc439a64bb374769dec3dd627be1c2",
}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    directory = tmp_path / "mine"
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps({"hidden_size": 64}))
    (directory / "model.safetensors").write_bytes(bytes(400_000))
    return directory


def test_every_model_has_a_version_of_its_own_that_can_be_asked_for_in_three_ways() -> None:
    catalog = demo_catalog()
    assert len({model.version for model in catalog.models()}) == len(catalog.models())
    for model in catalog.models():
        assert len(bytes.fromhex(model.version)) == 32
        current = model.versions[0]
        for spelling in (model.version, model.version.upper(), current.short_id):
            assert catalog.find_version(model.id, spelling) == current
            assert catalog.get_by_version(spelling) == model


@pytest.mark.parametrize(("name", "version"), KNOWN.items())
def test_public_version_ids_are_accepted(name: str, version: str) -> None:
    catalog = demo_catalog()
    found = catalog.find_version(name, version)
    assert found.id == version
    assert found in catalog.get(name).versions[1:]
    assert catalog.get_by_version(version).id == name


def test_a_version_of_another_model_is_refused() -> None:
    catalog = demo_catalog()
    with pytest.raises(UnknownModel, match="corral/demo:13c3"):
        catalog.find_version("corral/demo", KNOWN["meta/llama-2-7b-chat"])
    with pytest.raises(UnknownModel):
        catalog.find_version("corral/demo", "")
    with pytest.raises(UnknownModel):
        catalog.get_by_version("f" * 64)


def test_a_copy_of_the_weights_has_the_same_version(checkpoint: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / "mine"
    shutil.copytree(checkpoint, copy)
    (copy / "README.md").write_text("Read me")
    assert checkpoint_catalog(copy).models()[0].version == checkpoint_catalog(checkpoint).models()[0].version


@pytest.mark.parametrize("offset", [0, 200_000, 399_999])
def test_other_weights_have_another_version(checkpoint: Path, offset: int) -> None:
    before = weights_digest(checkpoint)
    with (checkpoint / "model.safetensors").open("r+b") as file:
        file.seek(offset)
        file.write(b"x")
    assert weights_digest(checkpoint) != before


def test_another_configuration_or_tokenizer_is_another_version(checkpoint: Path) -> None:
    digests = {weights_digest(checkpoint)}
    (checkpoint / "config.json").write_text(json.dumps({"hidden_size": 64, "rope_theta": 5}))
    digests.add(weights_digest(checkpoint))
    (checkpoint / "tokenizer.json").write_text("{}")
    digests.add(weights_digest(checkpoint))
    (checkpoint / "tokenizer.json").rename(checkpoint / "tokenizer.model")
    digests.add(weights_digest(checkpoint))
    assert len(digests) == 4


def test_one_file_can_be_a_whole_model(checkpoint: Path) -> None:
    assert weights_digest(checkpoint / "model.safetensors") != weights_digest(checkpoint)


def test_a_file_that_cannot_be_read_is_named(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(CheckpointRefused, match=r"config\.json cannot be read: Permission denied"):
        weights_digest(checkpoint)


def test_the_digest_of_terabytes_takes_no_longer_than_that_of_megabytes(checkpoint: Path) -> None:
    with (checkpoint / "model.safetensors").open("r+b") as file:
        file.truncate(2**40)  # sparse: it takes no room
    begun_s = time.perf_counter()
    weights_digest(checkpoint)
    assert time.perf_counter() - begun_s < 5
    assert weights_digest(demo_checkpoint()) == weights_digest(demo_checkpoint())
