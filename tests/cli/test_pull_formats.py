"""``corral pull`` of GGUF models, of repositories in other formats, and of those with weights in two."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from corral.catalog.local import LocalModels
from corral.checkpoints.directory import find_weight_files
from corral.cli.main import app
from corral.core.errors import BadSetting
from corral.engines.openvino.checkpoint import open_checkpoint
from tests.cli.processes import run_in_pipes
from tests.hub import COMMIT, FakeHub, serving_hub, shards, tiny_files
from tests.oracle.gguf_llama import GgufLlama, write_split

NAME = "somebody/tiny-llama"
MODEL = GgufLlama(hidden=32, intermediate=32, layers=2, heads=2, kv_heads=1, tied=True)


@pytest.fixture(scope="module")
def running() -> Iterator[FakeHub]:
    """One Hub for the module."""
    with serving_hub() as hub:
        yield hub


@pytest.fixture
def hub(running: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeHub:
    """The Hub without repositories, and settings that name it."""
    running.reset()
    monkeypatch.setenv("CORRAL_HUB_URL", running.url)
    monkeypatch.setenv("CORRAL_DATA_DIR", str(tmp_path / "data"))
    return running


def snapshot(tmp_path: Path) -> Path:
    return tmp_path / "data" / "models" / "somebody--tiny-llama" / COMMIT


def pulled(*arguments: str) -> None:
    done = run_in_pipes(app, ["pull", *arguments], b"")
    assert done.status == 0, done.stderr.decode()


def refused(*arguments: str) -> str:
    done = run_in_pipes(app, ["pull", *arguments], b"")
    assert (done.status, done.stdout) == (1, b"")
    return done.stderr.decode()


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["adapter_config.json", "adapter_model.safetensors"], f"{NAME} is a LoRA adapter (adapter_config.json)"),
        (["config.json", "pytorch_model.bin"], f"Model.from_pretrained('{NAME}', torch_dtype=\"auto\")"),
        (["params.json", "consolidated.00.pth"], f"{NAME} holds weights in Meta's original format"),
        (["config.json", "onnx/model.onnx"], f"{NAME} is a model exported to ONNX (onnx/)"),
        (["model_index.json", "unet/model.safetensors"], f"{NAME} is a Diffusers pipeline"),
        ([], f"{NAME} is empty"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) and value else "",
)
def test_repository_in_another_format_is_named_before_anything_is_downloaded(
    hub: FakeHub, tmp_path: Path, names: list[str], said: str
) -> None:
    hub.publish(NAME, dict.fromkeys(names, b"{}"))
    assert said in refused(NAME)
    assert [asked.path for asked in hub.asked] == [f"/api/models/{NAME}"]
    assert not snapshot(tmp_path).exists()


def test_pull_and_serve_choose_the_same_weights(hub: FakeHub, tmp_path: Path) -> None:
    files = tiny_files(tmp_path / "there")
    del files["model.safetensors.index.json"]
    hub.publish(NAME, {**files, "consolidated-00001-of-00001.safetensors": b"the same once more"})
    pulled(NAME)
    (snapshot(tmp_path) / "consolidated.safetensors").write_bytes(files["consolidated.safetensors"])
    assert [path.name for path in find_weight_files(snapshot(tmp_path))] == shards(files)


# GGUF


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, bytes]:
    """A model in three parts."""
    return {path.name: path.read_bytes() for path in write_split(MODEL, tmp_path / "made" / "tiny.gguf")}


def registered(tmp_path: Path) -> Path:
    [model] = LocalModels(tmp_path / "data").models()
    return model.path


def test_the_only_gguf_model_of_a_repository_is_pulled_and_registered(hub: FakeHub, tmp_path: Path) -> None:
    content = MODEL.write_gguf(tmp_path / "made.gguf").read_bytes()
    hub.publish(NAME, {"README.md": b"# A model", "tiny.gguf": content, "mmproj-tiny.gguf": b"GGUF"})
    pulled(NAME)
    path = registered(tmp_path)
    assert path.name == "tiny.gguf"
    assert path.read_bytes() == content
    assert [other.name for other in path.parent.iterdir()] == ["tiny.gguf"]


@pytest.mark.parametrize("folder", ["", "Q8_0/"])
def test_all_parts_of_a_gguf_model_are_pulled(
    folder: str, hub: FakeHub, tmp_path: Path, parts: dict[str, bytes]
) -> None:
    hub.publish(NAME, {f"{folder}{name}": content for name, content in parts.items()} | {"other.gguf": b"GGUF"})
    pulled(NAME, "--file", f"{folder}tiny-00001-of-00003.gguf")
    path = registered(tmp_path)
    assert {other.name: other.read_bytes() for other in path.parent.iterdir()} == parts
    with open_checkpoint(path) as checkpoint:
        assert [file.name for file in checkpoint.files] == list(parts)


def test_gguf_models_of_one_repository_are_kept_apart(hub: FakeHub, tmp_path: Path, parts: dict[str, bytes]) -> None:
    small = replace(MODEL, kind="Q4_0").write_gguf(tmp_path / "small.gguf").read_bytes()
    hub.publish(NAME, {**parts, "small.gguf": small})
    pulled(NAME, "--file", "tiny-00001-of-00003.gguf")
    first = registered(tmp_path)
    pulled(NAME, "--file", "small.gguf")
    assert registered(tmp_path).read_bytes() == small
    assert first.is_file()
    assert run_in_pipes(app, ["model", "remove", NAME, "--yes"], b"").status == 0
    assert not first.parent.parent.exists()
    assert list((tmp_path / "data" / "cache" / "models").glob("*/openvino_model.xml")) == []


def test_a_registered_gguf_model_may_not_lie_elsewhere(hub: FakeHub, tmp_path: Path) -> None:
    hub.publish(NAME, {"tiny.gguf": MODEL.write_gguf(tmp_path / "made.gguf").read_bytes()})
    pulled(NAME)
    registry = tmp_path / "data" / "models" / "registry.json"
    registry.write_text(registry.read_text().replace("tiny.gguf", "../../tiny.gguf"))
    with pytest.raises(BadSetting, match=r"registry\.json is damaged"):
        LocalModels(tmp_path / "data").models()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), f"{NAME} holds 2 GGUF models. Choose one with --file: a.gguf, tiny-00001-of-00003.gguf."),
        (("--file", "b.gguf"), "has no file 'b.gguf' (--file). Its GGUF models are: a.gguf, tiny-00001-of-00003.gguf."),
        (("--file", "tiny-00002-of-00003.gguf"), "is part 2 of 3. Give the first part: tiny-00001-of-00003.gguf"),
        (("--file", "tiny-00001-of-00003.gguf"), f"{NAME} lacks parts of tiny-00001-of-00003.gguf: tiny-00003-of-"),
        (("--file", "a.gguf"), "a.gguf is a Git LFS pointer"),
    ],
)
def test_a_gguf_model_that_cannot_be_pulled_says_why(
    arguments: tuple[str, ...], said: str, hub: FakeHub, tmp_path: Path, parts: dict[str, bytes]
) -> None:
    del parts["tiny-00003-of-00003.gguf"]
    hub.publish(NAME, {**parts, "a.gguf": b"version https://git-lfs.github.com/spec/v1\n"})
    assert said in refused(NAME, *arguments)
    assert not list((tmp_path / "data" / "models").rglob("*.gguf"))
    assert LocalModels(tmp_path / "data").models() == ()
