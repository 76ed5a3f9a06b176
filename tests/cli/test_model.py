"""``corral model add`` and ``remove``: what is registered, what is deleted, and what never is."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.catalog.local import LocalModels
from corral.cli.main import app
from tests.cli.processes import Result, Terminal, run_in_pipes
from tests.hub import PIECES, FakeHub, serving_hub, tiny_files
from tests.oracle.gguf_llama import GgufLlama, write_split
from tests.oracle.llama import TinyLlama
from tests.unit.text.conftest import document_of

PULLED = "somebody/tiny-llama"


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Data directory of the commands."""
    monkeypatch.setenv("CORRAL_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A directory of the user's own."""
    directory = TinyLlama(vocab=len(PIECES)).write(tmp_path / "mine")
    (directory / "tokenizer.json").write_text(json.dumps(document_of(PIECES, [])))
    return directory


@pytest.fixture(scope="module")
def hub() -> Iterator[FakeHub]:
    """A Hub."""
    with serving_hub() as hub:
        yield hub


@pytest.fixture
def pulled(hub: FakeHub, tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a model that was pulled."""
    monkeypatch.setenv("CORRAL_HUB_URL", hub.url)
    hub.publish(PULLED, tiny_files(tmp_path / "there"))
    said("pull", PULLED)
    return data_dir / "models" / "somebody--tiny-llama"


def run(*arguments: str) -> Result:
    return run_in_pipes(app, arguments, b"")


def said(*arguments: str) -> str:
    done = run(*arguments)
    assert done.status == 0, done.stderr.decode()
    return done.stdout.decode()


def refused(*arguments: str, status: int = 1) -> str:
    done = run(*arguments)
    assert (done.status, done.stdout) == (status, b"")
    return done.stderr.decode()


def registered(data_dir: Path) -> list[tuple[str, Path, str]]:
    return [(model.name, model.path, model.quantize) for model in LocalModels(data_dir).models()]


def converted(data_dir: Path) -> list[str]:
    """Names of the models in the cache."""
    return [path.parent.name for path in (data_dir / "cache" / "models").glob("*/openvino_model.xml")]


# Adding


def test_a_checkpoint_is_converted_and_registered_under_its_directorys_name(checkpoint: Path, data_dir: Path) -> None:
    assert "corral serve local/mine" in said("model", "add", str(checkpoint))
    assert registered(data_dir) == [("local/mine", checkpoint, "int8")]
    assert len(converted(data_dir)) == 1


def test_gguf_model_in_parts_is_registered_under_the_name_that_its_parts_share(tmp_path: Path, data_dir: Path) -> None:
    model = GgufLlama(hidden=32, intermediate=32, layers=1, heads=2, kv_heads=1, tied=True)
    first, *others = write_split(model, tmp_path / "split" / "tiny.gguf", tensors=4)
    assert "corral serve local/tiny" in said("model", "add", str(first))
    assert registered(data_dir) == [("local/tiny", first, "int8")]
    others[-1].unlink()
    assert f"missing beside it: {others[-1].name}" in refused("model", "add", str(first))


def test_a_name_and_a_storage_can_be_chosen_and_changed(checkpoint: Path, data_dir: Path) -> None:
    said("model", "add", str(checkpoint), "--name", "me/first", "--quantize", "f32")
    said("model", "add", str(checkpoint), "--name", "ME/First", "--quantize", "bf16")
    assert registered(data_dir) == [("ME/First", checkpoint, "bf16")]


def test_a_relative_path_is_registered_as_an_absolute_one(
    checkpoint: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkpoint)
    said("model", "add", ".")
    assert registered(data_dir) == [("local/mine", checkpoint, "int8")]


def bend(checkpoint: Path, how: str) -> None:
    match how:
        case "no tokenizer":
            (checkpoint / "tokenizer.json").unlink()
        case "no weights":
            (checkpoint / "model.safetensors").unlink()
        case "another tokenizer":
            (checkpoint / "tokenizer.json").write_text(json.dumps(document_of([*PIECES, "more"], [])))
        case "cut weights":
            weights = checkpoint / "model.safetensors"
            weights.write_bytes(weights.read_bytes()[:-100])
        case _:
            shutil.rmtree(checkpoint)


@pytest.mark.parametrize(
    ("how", "what"),
    [
        ("no tokenizer", "holds neither tokenizer.json nor tokenizer.model"),
        ("another tokenizer", f"the model in config.json has {len(PIECES)} (vocab_size)"),
        ("no weights", "holds no weights"),
        ("cut weights", "model.safetensors"),
        ("nothing at all", "is neither a directory nor a file"),
    ],
)
def test_unsupported_checkpoint_is_not_registered(checkpoint: Path, data_dir: Path, how: str, what: str) -> None:
    bend(checkpoint, how)
    assert what in refused("model", "add", str(checkpoint))
    assert registered(data_dir) == []


@pytest.mark.parametrize("name", ["mine", "a/b/c", "../x", "corral/demo", "a/" + "b" * 97])
def test_a_bad_name_is_refused(checkpoint: Path, data_dir: Path, name: str) -> None:
    assert "corral: " in refused("model", "add", str(checkpoint), "--name", name)
    assert registered(data_dir) == []


def test_pulled_and_added_models_cannot_share_a_name(checkpoint: Path, pulled: Path, data_dir: Path) -> None:
    assert "was pulled. To replace it, first run `corral model remove" in refused(
        "model", "add", str(checkpoint), "--name", PULLED
    )
    said("model", "add", str(checkpoint), "--name", "me/mine")
    assert "was added from" in refused("pull", "me/mine")
    assert {name for name, _, _ in registered(data_dir)} == {PULLED, "me/mine"}
    assert pulled.is_dir()


# Removing


def test_remove_keeps_files_of_an_added_model(checkpoint: Path, data_dir: Path) -> None:
    before = {path: path.read_bytes() for path in checkpoint.iterdir()}
    said("model", "add", str(checkpoint))
    said("model", "add", str(checkpoint), "--quantize", "f32")
    assert len(converted(data_dir)) == 2
    assert said("model", "remove", "LOCAL/mine", "--yes") == f"local/mine is removed; {checkpoint} was not changed.\n"
    assert {path: path.read_bytes() for path in checkpoint.iterdir()} == before
    assert (registered(data_dir), converted(data_dir)) == ([], [])


def test_a_model_whose_files_are_gone_can_still_be_removed(checkpoint: Path, data_dir: Path) -> None:
    said("model", "add", str(checkpoint))
    shutil.rmtree(checkpoint)
    said("model", "remove", "local/mine", "--yes")
    assert (registered(data_dir), converted(data_dir)) == ([], [])


def test_remove_deletes_pulled_and_converted_files_of_that_model_only(
    checkpoint: Path, pulled: Path, data_dir: Path
) -> None:
    said("model", "add", str(checkpoint), "--quantize", "f32")
    said("model", "remove", PULLED, "--yes")
    assert not pulled.exists()
    assert registered(data_dir) == [("local/mine", checkpoint, "f32")]
    assert len(converted(data_dir)) == 1


def test_remove_deletes_every_pulled_commit_and_its_conversions(hub: FakeHub, pulled: Path, data_dir: Path) -> None:
    hub.repositories[PULLED].commit = "f" * 40
    said("pull", PULLED)
    assert (len(list(pulled.iterdir())), len(converted(data_dir))) == (2, 1)
    said("model", "remove", PULLED, "--yes")
    assert (pulled.exists(), converted(data_dir)) == (False, [])


def test_unfinished_pull_can_be_removed(hub: FakeHub, pulled: Path, data_dir: Path) -> None:
    said("model", "remove", PULLED, "--yes")
    hub.cut["model-00002-of-00003.safetensors"] = 100
    hub.down_after_cut = True
    assert "The bytes received are kept" in refused("pull", PULLED)
    hub.refusal = 0
    assert pulled.is_dir()
    said("model", "remove", PULLED, "--yes")
    assert not pulled.exists()
    assert registered(data_dir) == []


def test_remove_of_an_unknown_model_lists_known_models(checkpoint: Path, data_dir: Path) -> None:
    said("model", "add", str(checkpoint))
    sentence = refused("model", "remove", "me/other", "--yes")
    assert "me/other was neither pulled nor added on this machine. Its models are: local/mine." in sentence
    assert len(registered(data_dir)) == 1


def test_remove_without_terminal_requires_yes(checkpoint: Path, data_dir: Path) -> None:
    said("model", "add", str(checkpoint))
    assert "--yes" in refused("model", "remove", "local/mine", status=2)
    assert len(registered(data_dir)) == 1


def test_remove_on_a_terminal_asks_first(checkpoint: Path, data_dir: Path) -> None:
    said("model", "add", str(checkpoint))
    with Terminal([sys.executable, "-m", "corral", "model", "remove", "local/mine"]) as terminal:
        terminal.wait_for("Remove local/mine and delete its converted files? [y/N]:")
        terminal.type("n\n")
        assert terminal.wait_for_end() == 1
    assert len(registered(data_dir)) == 1


def test_progress_is_drawn_on_a_terminal(
    hub: FakeHub, tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CORRAL_HUB_URL", hub.url)
    files = tiny_files(tmp_path / "there")
    hub.publish(PULLED, files)
    hub.held["model-00001-of-00003.safetensors"] = 1000
    with Terminal(["/usr/bin/env", "TERM=xterm", sys.executable, "-m", "corral", "pull", PULLED]) as terminal:
        terminal.wait_for("Fetching 3 files")
        terminal.wait_for("%")
        hub.go_on.set()
        terminal.wait_for("is ready to serve")
        assert terminal.wait_for_end() == 0
    assert len(registered(data_dir)) == 1
