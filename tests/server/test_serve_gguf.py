"""A GGUF file, served by ``corral serve`` and registered by ``corral model add``: the demo model in another format."""

import json
import tomllib
import urllib.request
from pathlib import Path
from typing import Any

import gguf
import pytest
from gguf import GGMLQuantizationType as Kind
from gguf.quants import quantize

from corral.bootstrap import build
from corral.catalog.catalog import checkpoint_catalog
from corral.catalog.identity import suggest_name
from corral.catalog.local import LocalModels
from corral.checkpoints.source import open_source
from corral.cli.main import app
from corral.core.errors import CheckpointRefused
from corral.engines.openvino.checkpoint import open_checkpoint
from corral.settings import load_settings
from tests.cli.processes import run_in_pipes
from tests.oracle.gguf_llama import finish, name_in_file, permute, vocabulary_metadata, write_metadata
from tests.server.test_serve_command import DEMO, PATIENCE_S, banner_of, serve

KEY = "ck_of-the-test"
PROMPT: dict[str, Any] = tomllib.loads(
    (Path(__file__).parents[1] / "unit" / "demo" / "ten_prompts.toml").read_text(encoding="utf-8")
)["prompt"][1]


@pytest.fixture(scope="module")
def demo_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model as llama.cpp's converter would write it, in Q8_0."""
    config = json.loads((DEMO / "config.json").read_bytes())
    tokenizer = json.loads((DEMO / "tokenizer.json").read_bytes())["model"]
    path = tmp_path_factory.mktemp("gguf") / "corral-demo.Q8_0.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    write_metadata(
        writer,
        {
            "llama.context_length": config["max_position_embeddings"],
            "llama.embedding_length": config["hidden_size"],
            "llama.feed_forward_length": config["intermediate_size"],
            "llama.block_count": config["num_hidden_layers"],
            "llama.attention.head_count": config["num_attention_heads"],
            "llama.attention.head_count_kv": config["num_key_value_heads"],
            "llama.attention.layer_norm_rms_epsilon": config["rms_norm_eps"],
            **vocabulary_metadata(*pieces_and_scores(tokenizer["vocab"], tokenizer["merges"])),
        },
    )
    with open_checkpoint(DEMO) as checkpoint:
        for name, sizes in checkpoint.shape.tensors().items():
            kind = Kind.F32 if len(sizes) == 1 else Kind.Q8_0
            values = checkpoint.read_rows(name, 0, sizes[0] if len(sizes) == 2 else 1).reshape(sizes)
            if name.endswith(("q_proj.weight", "k_proj.weight")):
                values = permute(values, config["num_attention_heads"])
            writer.add_tensor(name_in_file(name), quantize(values, kind), raw_dtype=kind)
    finish(writer)
    return path


def pieces_and_scores(vocab: dict[str, int], merges: list[list[str]]) -> tuple[list[str], list[float]]:
    """Merges as SentencePiece has them: the earlier a piece is made, the better its score."""
    scores = dict.fromkeys(vocab, 0.0) | {"".join(pair): -float(rank) for rank, pair in enumerate(merges)}
    pieces = sorted(vocab, key=vocab.__getitem__)
    return pieces, [scores[piece] for piece in pieces]


def test_gguf_file_gives_the_chat_answer_of_the_original_model(demo_file: Path, tmp_path: Path) -> None:
    chosen = ("--data-dir", str(tmp_path), "--chat-format", "llama-2")
    with serve(str(demo_file), *chosen, CORRAL_API_KEY=KEY) as process:
        banner = banner_of(process)
        assert "local/corral-demo.Q8_0 (openvino, int8 from Q8_0, context 4096 tokens)" in banner
        url = next(line.split()[-1] for line in banner.splitlines() if line.startswith("Corral answers at"))
        body = {"model": "local/corral-demo.Q8_0", "messages": PROMPT["messages"], "temperature": 0}
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        asked = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(asked, timeout=PATIENCE_S) as answered:
            answer = json.load(answered)
        assert answer["choices"][0]["message"]["content"].strip() == PROMPT["answer"].strip()
        body |= {"response_format": {"type": "json_object"}, "max_tokens": 12}
        asked = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(asked, timeout=PATIENCE_S) as answered:
            assert json.load(answered)["choices"][0]["message"]["content"].lstrip()[:1] == "{"


def test_a_gguf_file_can_be_added_by_a_name_and_removed(
    demo_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CORRAL_DATA_DIR", str(tmp_path))
    converted = tmp_path / "cache" / "models"
    assert run_in_pipes(app, ["model", "add", str(demo_file)], b"").status == 0
    [added] = LocalModels(tmp_path).models()
    assert (added.name, added.path) == ("local/corral-demo.Q8_0", demo_file)
    assert len(list(converted.glob("*/openvino_model.xml"))) == 1
    assert run_in_pipes(app, ["model", "remove", added.name, "--yes"], b"").status == 0
    assert LocalModels(tmp_path).models() == ()
    assert not list(converted.glob("*/openvino_model.xml"))
    assert demo_file.is_file()


def test_symlink_gives_the_model_its_name(demo_file: Path, tmp_path: Path) -> None:
    (tmp_path / "llama.gguf").symlink_to(demo_file)
    catalog = checkpoint_catalog(tmp_path / "llama.gguf")
    assert (catalog.models()[0].id, catalog.models()[0].context_tokens) == ("local/llama", 4096)


def test_gguf_shape_and_name_only_suggest_a_known_model(tmp_path: Path) -> None:
    metadata = {"llama.embedding_length": 4096, "llama.block_count": 32, "llama.context_length": 2048}
    metadata["llama.attention.layer_norm_rms_epsilon"] = 1e-5
    metadata["general.name"] = "meta-llama/Llama-2-7b-chat-hf"
    writer = gguf.GGUFWriter(tmp_path / "mine.gguf", "llama")
    write_metadata(writer, metadata | vocabulary_metadata(["<unk>", "<s>", "</s>", *"abc"], [0.0] * 6))
    finish(writer)
    path = tmp_path / "mine.gguf"
    assert [model.id for model in checkpoint_catalog(path).models()] == ["local/mine"]
    assert suggest_name(open_source(path).read_config()) == "meta/llama-2-7b-chat"
    named = checkpoint_catalog(path, name="meta/llama-2-7b-chat").models()
    assert [(model.id, model.context_tokens) for model in named] == [
        ("meta/llama-2-7b-chat", 2048), ("meta-llama/Llama-2-7b-chat-hf", 2048),
    ]  # fmt: skip


def test_unsupported_file_error_names_the_file(demo_file: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(demo_file.read_bytes()[:-1000])
    for path, said in ((cut, r"^cut\.gguf is truncated"), (DEMO / "model.safetensors", "should be a GGUF file")):
        with pytest.raises(CheckpointRefused, match=said):
            build(load_settings({"model": str(path), "data_dir": tmp_path / "data"}, {}), lambda _: None)
