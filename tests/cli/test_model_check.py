"""``corral model check``: what is printed about checkpoints that are served, and about those that are refused."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import pytest

from corral.cli.main import app
from corral.text.load import load_tokenizer
from tests.cli.processes import run_in_pipes
from tests.hub import PIECES
from tests.oracle.gguf_llama import GgufLlama, write_split
from tests.oracle.llama import BF16, TinyLlama
from tests.unit.text.conftest import document_of

TINY = TinyLlama(vocab=len(PIECES), dtype=BF16)
GGUF = GgufLlama(hidden=256, intermediate=512, heads=8, kv_heads=2, kind="Q4_K")
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
PATIENCE_S = 60


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Data directory of the commands."""
    monkeypatch.setenv("CORRAL_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A checkpoint that is served."""
    directory = TINY.write(tmp_path / "tiny")
    (directory / "tokenizer.json").write_text(json.dumps(document_of(PIECES, [])))
    return directory


def check(given: object, *, status: int = 0) -> str:
    done = run_in_pipes(app, ["model", "check", str(given)], b"")
    assert (done.status, done.stderr) == (status, b"")
    return done.stdout.decode()


def report(given: object, *, status: int = 0) -> Any:
    done = run_in_pipes(app, ["model", "check", str(given), "--json"], b"")
    assert (done.status, done.stderr) == (status, b"")
    return json.loads(done.stdout)


def change(path: Path, **fields: object) -> None:
    path.write_text(json.dumps({**(json.loads(path.read_text()) if path.exists() else {}), **fields}))


# Served


def test_everything_about_a_served_checkpoint_is_printed(checkpoint: Path) -> None:
    change(checkpoint / "generation_config.json", eos_token_id=[2, 0])
    parameters = sum(tensor.size for tensor in TINY.tensors().values())
    lines = check(checkpoint).splitlines()
    assert lines[0] == str(checkpoint)
    assert "  architecture LlamaForCausalLM" in lines
    assert f"  parameters   {parameters:,}" in lines
    assert "  context      512 tokens" in lines
    assert any(line.startswith("  weights      safetensors, model.safetensors, ") for line in lines)
    assert "  tokenizer    BPE with byte fallback in tokenizer.json, 260 tokens; <s> leads each prompt" in lines
    assert "  end tokens   <unk> (0: generation_config.json), </s> (2: config.json, tokenizer.json)" in lines
    assert any(line.startswith("  chat format  not known. The checkpoint has no chat template") for line in lines)
    assert [line.split()[0] for line in lines if line.startswith(("  f32", "  bf16", "  int"))] == [
        "f32", "bf16", "int8", "int4",
    ]  # fmt: skip
    assert lines[-1] == "It can be served."


def test_report_as_json_has_numbers_in_bytes(checkpoint: Path) -> None:
    found = report(checkpoint)
    assert found["is_served"] is True
    assert found["model"] == {
        "architecture": "LlamaForCausalLM",
        "parameters": sum(tensor.size for tensor in TINY.tensors().values()),
        "context_tokens": 512,
        "vocab_size": len(PIECES),
    }
    assert found["weights"]["types"] == ["BF16"]
    assert found["weights"]["size_bytes"] == (checkpoint / "model.safetensors").stat().st_size
    by_storage = {facts["quantize"]: facts["weights_bytes"] for facts in found["storage"]}
    assert by_storage["f32"] > by_storage["bf16"] > by_storage["int8"] > by_storage["int4"]
    assert by_storage["f32"] >= 4 * found["model"]["parameters"]
    assert all(facts["loaded_bytes"] > facts["weights_bytes"] for facts in found["storage"])
    assert (found["warnings"], found["refusals"]) == ([], [])


def test_gguf_model_in_parts_shows_what_its_blocks_become(tmp_path: Path) -> None:
    parts = write_split(GGUF, tmp_path / "tiny.gguf")
    found = report(parts[0])
    assert found["weights"]["format"] == f"GGUF, {len(parts)} parts"
    assert found["weights"]["files"] == [path.name for path in parts]
    assert found["weights"]["types"][0] == "Q4_K"
    assert [facts["stored_as"] for facts in found["storage"]] == ["f32", "bf16", "int8 from Q4_K", "int8 from Q4_K"]
    assert found["tokenizer"]["kind"] == "SentencePiece"


def test_example_is_rendered_in_the_recognised_format_with_its_ids(checkpoint: Path) -> None:
    document = document_of(PIECES, [])
    added = {"<|im_start|>": len(PIECES), "<|im_end|>": len(PIECES) + 1}
    document["added_tokens"] += [{"id": number, "content": text, "special": True} for text, number in added.items()]
    replace(TINY, vocab=len(PIECES) + 2).write(checkpoint)
    (checkpoint / "tokenizer.json").write_text(json.dumps(document))
    (checkpoint / "chat_template.jinja").write_text(TEMPLATE)
    found = report(checkpoint)
    assert found["chat"]["format"] == "chatml"
    assert "<|im_start|>" in found["chat"]["evidence"]
    example = found["chat"]["example"]
    assert example["text"].endswith("What is the capital of France?<|im_end|>\n<|im_start|>assistant\n")
    tokenizer = load_tokenizer(checkpoint)
    assert example["ids"].count(tokenizer.control_ids["<|im_start|>"]) == 2
    assert ["the chat format" in end["sources"] for end in found["end_tokens"] if end["text"] == "<|im_end|>"] == [True]
    [warning] = found["warnings"]
    assert "own chat template" in warning


def test_registered_model_is_found_by_its_name(checkpoint: Path) -> None:
    done = run_in_pipes(app, ["model", "add", str(checkpoint), "--name", "me/mine"], b"")
    assert done.status == 0
    assert check("ME/mine").startswith(f"{checkpoint}\n")


def test_unknown_name_is_refused_in_one_sentence() -> None:
    done = run_in_pipes(app, ["model", "check", "me/nothing"], b"")
    assert (done.status, done.stdout) == (1, b"")
    assert b"me/nothing is neither a directory, a .gguf file nor a model of the catalog" in done.stderr


# Refused


def quantize_with_gptq(checkpoint: Path) -> None:
    change(checkpoint / "config.json", quantization_config={"quant_method": "gptq", "bits": 4})


def export_to_openvino(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").unlink()
    (checkpoint / "openvino_model.xml").touch()


def leave_lfs_pointer(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")


def cut_weights(checkpoint: Path) -> None:
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def take_another_tokenizer(checkpoint: Path) -> None:
    (checkpoint / "tokenizer.json").write_text(json.dumps(document_of([*PIECES, "more"], [])))


def end_at_a_letter(checkpoint: Path) -> None:
    change(checkpoint / "config.json", eos_token_id=100)


def scale_positions(checkpoint: Path) -> None:
    change(checkpoint / "config.json", rope_scaling={"rope_type": "yarn", "factor": 4.0})


REFUSED: dict[Callable[[Path], None], str] = {
    quantize_with_gptq: 'config.json: quantization_config.quant_method is "gptq"',
    export_to_openvino: "is a model exported for OpenVINO (openvino_model.xml)",
    leave_lfs_pointer: "model.safetensors is a Git LFS pointer",
    cut_weights: "model.safetensors is truncated",
    take_another_tokenizer: f"the model in config.json has {len(PIECES)} (vocab_size)",
    end_at_a_letter: 'config.json: the end token 100 is "a" in tokenizer.json',
    scale_positions: "rope_scaling",
}


@pytest.mark.parametrize("damage", REFUSED, ids=lambda damage: damage.__name__)
def test_refused_checkpoint_shows_what_is_known_and_why_as_serving_does(
    damage: Callable[[Path], None], checkpoint: Path
) -> None:
    damage(checkpoint)
    found = report(checkpoint, status=1)
    assert found["is_served"] is False
    [refusal] = found["refusals"]
    assert REFUSED[damage] in refusal
    assert (found["model"]["architecture"], found["model"]["context_tokens"]) == ("LlamaForCausalLM", 512)
    assert found["tokenizer"]["kind"] == "BPE with byte fallback"
    page = check(checkpoint, status=1)
    assert page.endswith(f"It cannot be served:\n  - {refusal}\n")
    serve = [sys.executable, "-m", "corral", "serve", str(checkpoint), "--port", "0"]
    served = subprocess.run(serve, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert served.returncode == 1
    assert refusal in served.stderr


def test_every_reason_is_printed_once(checkpoint: Path) -> None:
    quantize_with_gptq(checkpoint)
    cut_weights(checkpoint)
    (checkpoint / "tokenizer.json").write_text("{")
    first, second, third = report(checkpoint, status=1)["refusals"]
    assert (REFUSED[quantize_with_gptq] in first, REFUSED[cut_weights] in second, "tokenizer.json" in third) == (
        True, True, True,
    )  # fmt: skip


def test_gguf_model_with_a_missing_part_shows_what_the_first_one_says(tmp_path: Path) -> None:
    parts = write_split(GGUF, tmp_path / "tiny.gguf")
    parts[1].unlink()
    found = report(parts[0], status=1)
    assert found["refusals"] == [
        f"{parts[0].name} is the first of {len(parts)} parts of a model; missing beside it: {parts[1].name}. Download "
        "them into the same directory."
    ]
    assert found["model"] == {
        "architecture": "llama", "parameters": None, "context_tokens": 512, "vocab_size": GGUF.vocab,
    }  # fmt: skip


def test_gguf_model_of_unread_types_shows_its_parameters(tmp_path: Path) -> None:
    path = GGUF.write_gguf(tmp_path / "tiny.gguf")
    q4_k, iq4_xs = gguf.GGMLQuantizationType.Q4_K, gguf.GGMLQuantizationType.IQ4_XS
    assert gguf.GGML_QUANT_SIZES[q4_k] != gguf.GGML_QUANT_SIZES[iq4_xs]
    small = replace(GGUF, kind="Q4_0").write_gguf(tmp_path / "small.gguf")
    content, name = bytearray(small.read_bytes()), b"blk.0.ffn_up.weight"
    at = content.index(name) + len(name) + 4 + 2 * 8
    assert content[at] == gguf.GGMLQuantizationType.Q4_0
    content[at] = gguf.GGMLQuantizationType.IQ4_NL  # a block has as many bytes
    path.write_bytes(content)
    found = report(path, status=1)
    [refusal] = found["refusals"]
    assert "holds tensor blk.0.ffn_up.weight as IQ4_NL" in refusal
    assert "IQ4_NL" in found["weights"]["types"]
    assert found["model"]["parameters"] == sum(tensor.size for tensor in GGUF.tensors().values())


def test_adapter_shows_its_tokenizer(checkpoint: Path) -> None:
    for path in checkpoint.iterdir():
        if path.name != "tokenizer.json":
            path.unlink()
    (checkpoint / "adapter_config.json").write_text("{}")
    page = check(checkpoint, status=1)
    assert "tokenizer    BPE with byte fallback in tokenizer.json" in page
    assert page.count("\n  - ") == 1
    assert "is a LoRA adapter (adapter_config.json)" in page


def test_names_that_are_no_valid_text_are_printed_without_harm(checkpoint: Path) -> None:
    change(checkpoint / "config.json", architectures=["\ud800\x1b[2J"])
    assert report(checkpoint, status=1)["model"]["architecture"] == "\ud800\x1b[2J"
    assert "It cannot be served:" in check(checkpoint, status=1)
