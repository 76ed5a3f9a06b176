"""``corral pull`` of repositories in other formats, and of those with weights in two."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.checkpoints.directory import find_weight_files
from corral.cli.main import app
from tests.cli.processes import run_in_pipes
from tests.hub import COMMIT, FakeHub, serving_hub, shards, tiny_files

NAME = "somebody/tiny-llama"


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


def refused(*arguments: str) -> str:
    done = run_in_pipes(app, ["pull", *arguments], b"")
    assert (done.status, done.stdout) == (1, b"")
    return done.stderr.decode()


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["adapter_config.json", "adapter_model.safetensors"], f"{NAME} is a LoRA adapter (adapter_config.json)"),
        (["config.json", "model.Q4_K_M.gguf"], f"{NAME} holds GGUF files, and no *.safetensors."),
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
    assert run_in_pipes(app, ["pull", NAME], b"").status == 0
    (snapshot(tmp_path) / "consolidated.safetensors").write_bytes(files["consolidated.safetensors"])
    assert [path.name for path in find_weight_files(snapshot(tmp_path))] == shards(files)
