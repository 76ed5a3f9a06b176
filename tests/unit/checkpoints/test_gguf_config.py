"""Metadata of a GGUF file says the same as a ``config.json``, and what is not computed is refused by key and value."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from corral.checkpoints.config import Config
from corral.core.errors import CheckpointRefused
from corral.engines.openvino.checkpoint import open_checkpoint
from corral.engines.openvino.shape import read_shape
from tests.oracle.gguf_llama import GgufLlama
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
        ("llama.attention.key_length", 32),
        ("llama.attention.value_length", 32),
        ("llama.attention.sliding_window", 4096),
        ("llama.attention.causal", False),
        ("llama.attention.new_idea", 1),
        ("llama.context_length", 1),
        ("llama.rope.dimension_count", 8),
        ("llama.rope.freq_base", -1.0),
        ("llama.rope.freq_base", float("nan")),
        ("llama.rope.scaling.type", "linear"),
        ("llama.rope.scaling.type", "yarn"),
        ("llama.rope.scaling.factor", 4.0),
        ("llama.rope.scale_linear", 2.0),
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


@pytest.mark.parametrize("architecture", ["mistral", "llama4", None, 7])
def test_another_architecture_is_refused_by_name(architecture: object, tmp_path: Path) -> None:
    path = TINY.write_gguf(tmp_path / "tiny.gguf", general__architecture=architecture)
    with pytest.raises(CheckpointRefused) as refused:
        open_checkpoint(path)
    said = "missing" if architecture is None else json.dumps(architecture)
    assert str(refused.value).startswith(f'tiny.gguf: general.architecture is {said}; only "llama"')
