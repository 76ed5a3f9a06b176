"""The registry of local models: atomic, shared, validated on reading."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from corral.catalog.local import LocalModel, LocalModels
from corral.core.errors import BadSetting

COMMIT = "0" * 40


def added(name: str, path: str = "/weights") -> LocalModel:
    return LocalModel(name=name, path=Path(path), revision=None, quantize="int8")


def names(data_dir: Path) -> list[str]:
    return [model.name for model in LocalModels(data_dir).models()]


def test_new_registry_is_empty(tmp_path: Path) -> None:
    assert LocalModels(tmp_path / "absent").models() == ()
    assert LocalModels(tmp_path).find("a/b") is None


def test_registered_model_is_read_back(tmp_path: Path) -> None:
    local = LocalModels(tmp_path)
    mine = added("me/mine")
    theirs = LocalModel(name="a/b", path=local.folder("a/b") / COMMIT, revision=COMMIT, quantize="int4")
    for model in (mine, theirs):
        local.register(model)
    assert LocalModels(tmp_path).models() == (mine, theirs)
    assert local.find("A/B") == theirs
    local.unregister("me/mine")
    assert local.models() == (theirs,)


def test_pulled_models_move_with_their_data_directory(tmp_path: Path) -> None:
    local = LocalModels(tmp_path / "old")
    local.register(LocalModel(name="a/b", path=local.folder("a/b") / COMMIT, revision=COMMIT, quantize="int4"))
    (tmp_path / "old").rename(tmp_path / "new")
    (model,) = LocalModels(tmp_path / "new").models()
    assert model.path == tmp_path / "new" / "models" / "a--b" / COMMIT


def test_aliases_of_a_known_model_match_with_the_exact_name_first(tmp_path: Path) -> None:
    local = LocalModels(tmp_path)
    local.register(added("meta-llama/Llama-2-13b-chat-hf", "/hub"))
    found = local.find("meta/llama-2-13b-chat")
    assert found is not None
    assert found.path == Path("/hub")
    local.register(added("meta/llama-2-13b-chat", "/own"))
    assert [local.find(name).path for name in ("meta/llama-2-13b-chat", "meta-llama/Llama-2-13b-chat-hf")] == [
        Path("/own"), Path("/hub"),
    ]  # fmt: skip
    assert local.find("meta/llama-2-7b-chat") is None


WRITER = """
    import sys
    from pathlib import Path
    from corral.catalog.local import LocalModel, LocalModels

    local = LocalModels(Path(sys.argv[1]))
    print("ready", flush=True)
    sys.stdin.read(1)
    for number in range(50):
        name = f"me/{sys.argv[2]}-{number}"
        local.register(LocalModel(name=name, path=Path("/x"), revision=None, quantize="int8"))
"""


def test_concurrent_commands_lose_no_registration(tmp_path: Path) -> None:
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(tmp_path)]
    whose = ("one", "other", "third")
    pipe = subprocess.PIPE
    writers = [subprocess.Popen([*command, who], stdin=pipe, stdout=pipe, text=True) for who in whose]
    assert [writer.stdout.readline() for writer in writers if writer.stdout] == ["ready\n"] * 3
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("x")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=60)
    assert [writer.returncode for writer in writers] == [0] * 3
    assert sorted(names(tmp_path)) == sorted(f"me/{who}-{n}" for who in whose for n in range(50))


def entry(**fields: object) -> str:
    return json.dumps({"version": 1, "models": [{"name": "a/b", "quantize": "int8", **fields}]})


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "7", "[" * 100_000, '{"version": 2, "models": []}', '{"version": 1}',
        entry(),
        entry(path="relative"),
        entry(path="/x\0y"),
        entry(path="/" + "x" * 5000),
        entry(path="/x", revision=COMMIT),
        entry(revision="../../../etc"),
        entry(revision="main"),
        entry(path="/x", more=1),
        entry(path="/x", quantize="int2"),
        entry(path="/x", name="../../etc"),
        entry(path="/x", name="a/b/c"),
        entry(path="/x", name="a--b/c"),
        entry(revision=COMMIT, name="corral/demo"),
        entry(path=5),
        json.dumps({"version": 1, "models": [{"name": n, "quantize": "int8", "path": "/x"} for n in ("a/b", "A/B")]}),
        " " * (5 * 2**20),
    ],
    ids=lambda text: text[:70],
)  # fmt: skip
def test_a_damaged_registry_is_refused_in_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "registry.json").write_text(text)
    with pytest.raises(BadSetting) as caught:
        LocalModels(tmp_path).models()
    assert str(caught.value).startswith("data_dir: ")
    with pytest.raises(BadSetting):
        LocalModels(tmp_path).register(added("me/mine"))
    assert (tmp_path / "models" / "registry.json").read_text() == text


@pytest.mark.parametrize(
    "name", ["", "a", "a/", "/b", "a/b/c", "../b", "a/..", "a--b/c", "a b/c", "a/b\n", "corral/DEMO"]
)
def test_invalid_repository_name_has_no_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadSetting):
        LocalModels(tmp_path).folder(name)
