"""Metadata of a GGUF file says the same as a ``config.json``, and what is not computed is refused by key and value."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import gguf
import numpy as np
import pytest

from corral.checkpoints.architectures.registry import read_shape
from corral.checkpoints.config import Config
from corral.core.errors import CheckpointRefused
from corral.engines.openvino.checkpoint import open_checkpoint
from tests.oracle.gguf_llama import GgufLlama
from tests.oracle.llama import TinyLlama
from tests.oracle.variants import LLAMA3, VARIANTS
from tests.vocabulary import PIECES

TINY = GgufLlama(kv_heads=2, rms_norm_eps=2.0**-10)


@pytest.mark.parametrize("model", [TINY, replace(TINY, kv_heads=1, tied=True, rope_theta=1e6)], ids=["GQA", "tied MQA"])
def test_the_shape_is_that_of_a_config_json(model: GgufLlama, tmp_path: Path) -> None:
    with open_checkpoint(model.write_gguf(tmp_path / "tiny.gguf")) as checkpoint:
        assert checkpoint.shape == read_shape(Config(file="config.json", values=model.config()))


def test_missing_optional_keys_default_to_llama_2_values(tmp_path: Path) -> None:
    unpadded = replace(TINY, vocab=len(PIECES), kv_heads=4)
    left_out = dict.fromkeys(
        (
            "llama.vocab_size",
            "llama.rope.freq_base",
            "llama.rope.dimension_count",
            "llama.attention.head_count_kv",
            "tokenizer.ggml.bos_token_id",
            "tokenizer.ggml.eos_token_id",
            "general.quantization_version",
        )
    )
    with open_checkpoint(unpadded.write_gguf(tmp_path / "tiny.gguf", **left_out)) as checkpoint:
        assert checkpoint.shape == read_shape(Config(file="config.json", values=unpadded.config()))


def test_redundant_keys_are_accepted(tmp_path: Path) -> None:
    said = {
        "llama.rope.scaling.type": "none",
        "llama.rope.scaling.factor": 1.0,
        "llama.attention.key_length": 16,
        "llama.attention.value_length": 16,
        "llama.expert_count": 0,
        "llama.tensor_data_layout": "Meta AI original pth",
        "general.name": "Tiny",
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_space_prefix": True,
    }
    with open_checkpoint(TINY.write_gguf(tmp_path / "tiny.gguf", **said)):
        pass


@pytest.mark.parametrize("model", VARIANTS.values(), ids=VARIANTS.keys())
def test_every_variant_has_the_shape_of_its_config_json(model: TinyLlama, tmp_path: Path) -> None:
    held = GgufLlama(**{**asdict(model), "dtype": "F32", "vocab": len(PIECES), "rms_norm_eps": 2.0**-10}, kind="F32")
    with open_checkpoint(held.write_gguf(tmp_path / "tiny.gguf")) as checkpoint:
        found = checkpoint.shape
    said = read_shape(Config(file="config.json", values=held.config()))
    if said.attention.rope.divisors is not None and said.attention.rope.divisors != found.attention.rope.divisors:
        np.testing.assert_allclose(found.attention.rope.divisors, said.attention.rope.divisors, rtol=1e-6)
        rope = replace(found.attention.rope, divisors=said.attention.rope.divisors)
        found = replace(found, attention=replace(found.attention, rope=rope))
    assert replace(found, architecture=said.architecture) == said
    assert found.architecture == ("llama" if model.architecture == "mistral" else model.architecture)


@pytest.mark.parametrize("key", ["rope.scaling.factor", "rope.scale_linear"])
@pytest.mark.parametrize("kind", ["linear", None])
def test_a_factor_scales_linearly_with_and_without_the_word(key: str, kind: str | None, tmp_path: Path) -> None:
    path = TINY.write_gguf(tmp_path / "tiny.gguf", **{f"llama.{key}": 4.0, "llama.rope.scaling.type": kind})
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.shape.attention.rope.divisors == (4.0,) * 8


@pytest.mark.parametrize(
    "changes",
    [
        {"llama.rope.scaling.type": "none", "llama.rope.scaling.factor": 4.0},
        {"llama.rope.scaling.factor": 4.0, "llama.rope.scale_linear": 2.0},
    ],
)
def test_two_keys_that_scale_otherwise_are_refused(changes: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(CheckpointRefused, match=r"llama\.rope\.scaling\.factor is 4\.0; other keys"):
        open_checkpoint(TINY.write_gguf(tmp_path / "tiny.gguf", **changes))


def test_keys_of_another_architecture_do_not_count(tmp_path: Path) -> None:
    held = replace(TINY, architecture="qwen2")
    with open_checkpoint(held.write_gguf(tmp_path / "tiny.gguf", llama__expert_count=8)) as checkpoint:
        assert checkpoint.shape.architecture == "qwen2"
    with pytest.raises(CheckpointRefused, match=r"qwen2\.expert_count is 8; only 0 is supported: choose a dense model"):
        open_checkpoint(held.write_gguf(tmp_path / "tiny.gguf", qwen2__expert_count=8))


def test_a_window_in_a_qwen_file_limits_the_context(tmp_path: Path) -> None:
    held = replace(TINY, architecture="qwen2")
    with open_checkpoint(held.write_gguf(tmp_path / "a.gguf", qwen2__attention__sliding_window=100)) as checkpoint:
        assert (checkpoint.shape.context_tokens, checkpoint.shape.position_tokens) == (100, 512)
    with open_checkpoint(held.write_gguf(tmp_path / "b.gguf", qwen2__attention__sliding_window=0)) as checkpoint:
        assert checkpoint.shape.context_tokens == 512


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_divisors_that_are_not_positive_are_refused(bad: float, tmp_path: Path) -> None:
    held = replace(TINY, kind="F32", rope_scaling=dict(LLAMA3))
    path = held.write_gguf(tmp_path / "tiny.gguf")
    [tensor] = [entry for entry in gguf.GGUFReader(path).tensors if entry.name == "rope_freqs.weight"]
    with path.open("r+b") as file:
        file.seek(tensor.data_offset)
        file.write(np.array([bad], "<f4").tobytes())
    with pytest.raises(
        CheckpointRefused, match=r"tiny\.gguf: rope_freqs\.weight is .*; it must hold 8 positive numbers"
    ):
        open_checkpoint(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("general.quantization_version", 1),
        ("llama.embedding_length", None),
        ("llama.embedding_length", 2**31),
        ("llama.embedding_length", 64.0),
        ("llama.embedding_length", "64"),
        ("llama.block_count", 0),
        ("llama.block_count", 2**32 - 1),
        ("llama.feed_forward_length", 2**31),
        ("llama.attention.head_count", 0),
        ("llama.attention.head_count", 3),
        ("llama.attention.head_count_kv", 3),
        ("llama.attention.layer_norm_rms_epsilon", None),
        ("llama.attention.layer_norm_rms_epsilon", 0.0),
        ("llama.attention.key_length", 15),
        ("llama.attention.value_length", 32),
        ("llama.attention.sliding_window", 4096),
        ("llama.attention.causal", False),
        ("llama.attention.new_idea", 1),
        ("llama.context_length", 1),
        ("llama.rope.dimension_count", 8),
        ("llama.rope.freq_base", -1.0),
        ("llama.rope.freq_base", float("nan")),
        ("llama.rope.scaling.type", "yarn"),
        ("llama.rope.scaling.type", "longrope"),
        ("llama.rope.scaling.factor", -4.0),
        ("llama.rope.scaling.factor", float("nan")),
        ("llama.rope.scale_linear", "2"),
        ("llama.rope.scaling.finetuned", True),
        ("llama.expert_count", 8),
        ("llama.vocab_size", 10),
    ],
)
def test_unsupported_metadata_is_rejected_by_key_and_value(key: str, value: object, tmp_path: Path) -> None:
    path = TINY.write_gguf(tmp_path / "tiny.gguf", **{"llama.rope.dimension_count": None, key: value})
    with pytest.raises(CheckpointRefused) as refused:
        open_checkpoint(path)
    assert str(refused.value).startswith(f"tiny.gguf: {key} is {'missing' if value is None else json.dumps(value)}; ")


def test_a_number_for_each_layer_is_refused(tmp_path: Path) -> None:
    path = TINY.write_gguf(tmp_path / "tiny.gguf", llama__attention__head_count_kv=[2, 1])
    with pytest.raises(CheckpointRefused, match=r"^tiny.gguf: llama.attention.head_count_kv is an array"):
        open_checkpoint(path)


@pytest.mark.parametrize("architecture", ["mistral", "llama4", "qwen2moe", "gemma3", None, 7])
def test_another_architecture_is_refused_by_name(architecture: object, tmp_path: Path) -> None:
    path = TINY.write_gguf(tmp_path / "tiny.gguf", general__architecture=architecture)
    with pytest.raises(CheckpointRefused) as refused:
        open_checkpoint(path)
    said = "missing" if architecture is None else json.dumps(architecture)
    assert str(refused.value).startswith(
        f'tiny.gguf: general.architecture is {said}; supported are "llama", "qwen2", "qwen3"'
    )
