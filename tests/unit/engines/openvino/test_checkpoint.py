"""Checkpoints that are served, and checkpoints that are refused by a sentence that names what is wrong."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from corral.core.errors import CheckpointRefused
from corral.engines.openvino.checkpoint import open_checkpoint
from tests.oracle.llama import BF16, F16, F32, MHA, TIED_MQA, TinyLlama, pack, pack_header

NORM = "model.norm.weight"


@pytest.mark.parametrize("dtype", [BF16, F16, F32])
@pytest.mark.parametrize("shards", [1, 3])
def test_rows_come_back_as_written(dtype: str, shards: int, tmp_path: Path) -> None:
    model = replace(MHA, dtype=dtype, shards=shards)
    with open_checkpoint(model.write(tmp_path)) as checkpoint:
        for name, tensor in model.tensors().items():
            rows = tensor if tensor.ndim == 2 else tensor[None]
            np.testing.assert_array_equal(checkpoint.read_rows(name, 0, len(rows)), rows)
            np.testing.assert_array_equal(checkpoint.read_rows(name, len(rows) // 2, len(rows)), rows[len(rows) // 2 :])


def test_links_into_a_shared_store_are_followed(tmp_path: Path) -> None:
    MHA.write(tmp_path / "store")
    (tmp_path / "snapshot").mkdir()
    for path in (tmp_path / "store").iterdir():
        (tmp_path / "snapshot" / path.name).symlink_to(path)
    with open_checkpoint(tmp_path / "snapshot") as checkpoint:
        assert checkpoint.shape.layers == 2


def test_tensors_that_are_computed_or_tied_may_be_there_too(tmp_path: Path) -> None:
    tensors = TIED_MQA.tensors()
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(8, np.float32)
    TIED_MQA.write(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(pack(tensors, F32))
    with open_checkpoint(tmp_path):
        pass


# config.json


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("architectures", ["GPT2LMHeadModel"]),
        ("architectures", None),
        ("model_type", "mistral"),
        ("hidden_act", "gelu"),
        ("mlp_bias", True),
        ("num_attention_heads", 3),
        ("num_key_value_heads", 3),
        ("num_attention_heads", 64),
        ("hidden_size", 2**40),
        ("hidden_size", "64"),
        ("hidden_size", 64.0),
        ("num_hidden_layers", 10**9),
        ("num_hidden_layers", 0),
        ("vocab_size", -1),
        ("vocab_size", True),
        ("max_position_embeddings", 10**12),
        ("intermediate_size", None),
        ("rms_norm_eps", 0),
        ("rms_norm_eps", float("nan")),
        ("rope_theta", -1.0),
        ("tie_word_embeddings", "yes"),
    ],
)
def test_a_config_that_cannot_be_served_is_refused_by_field_and_value(
    field: str, value: object, tmp_path: Path
) -> None:
    model = replace(MHA, heads=64) if (field, value) == ("num_attention_heads", 64) else MHA
    directory = model.write(tmp_path)
    (directory / "config.json").write_text(json.dumps({**MHA.config(), field: value}))
    named = f"{field} is {json.dumps(value)};"
    with pytest.raises(CheckpointRefused) as refused:
        open_checkpoint(directory)
    assert named in str(refused.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, '{"hidden_size": 1e9999'])
def test_a_config_that_is_not_a_json_object_is_refused(text: str, tmp_path: Path) -> None:
    MHA.write(tmp_path)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointRefused, match=r"config\.json"):
        open_checkpoint(tmp_path)


# The directory


def test_a_pipe_in_the_place_of_a_config_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(CheckpointRefused, match="not a regular file"):
        open_checkpoint(tmp_path)


def test_a_directory_without_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(MHA.config()))
    with pytest.raises(CheckpointRefused, match="holds no weights"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "consolidated.pth", "model.pt"])
def test_pickles_are_refused_and_never_opened(name: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(MHA.config()))
    os.mkfifo(tmp_path / name)  # reading it would wait for ever
    with pytest.raises(CheckpointRefused, match="pickles"):
        open_checkpoint(tmp_path)


def test_a_missing_directory_and_a_missing_config_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointRefused, match="nowhere cannot be opened"):
        open_checkpoint(tmp_path / "nowhere")
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(CheckpointRefused, match=r"has no config\.json, which describes the model"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/hostname", "a/b.safetensors", "x.bin", "..", 7])
def test_an_index_that_leaves_its_directory_is_refused(name: object, tmp_path: Path) -> None:
    replace(MHA, shards=2).write(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {NORM: name}}))
    with pytest.raises(CheckpointRefused, match="not a plain"):
        open_checkpoint(tmp_path)


def test_a_missing_shard_is_refused_by_name(tmp_path: Path) -> None:
    replace(MHA, shards=3).write(tmp_path)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(CheckpointRefused, match=r"index\.json names files .* \(1 of 3\): model-00002-of-00003"):
        open_checkpoint(tmp_path)


def test_a_pipe_in_the_place_of_weights_does_not_block(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(MHA.config()))
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(CheckpointRefused, match="not a regular file"):
        open_checkpoint(tmp_path)


# Tensors


def rewrite(tmp_path: Path, change: Callable[[dict[str, np.ndarray]], object], model: TinyLlama = MHA) -> Path:
    tensors = model.tensors()
    change(tensors)
    model.write(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(pack(tensors, F32))
    return tmp_path


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointRefused, match=r"model\.layers\.1\.mlp\.up_proj\.weight"):
        open_checkpoint(rewrite(tmp_path, lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight")))


def test_a_tensor_of_the_wrong_shape_is_named_with_both_shapes(tmp_path: Path) -> None:
    with pytest.raises(CheckpointRefused, match=r"lm_head.weight has shape \[299, 64\].*\[300, 64\]"):
        open_checkpoint(
            rewrite(tmp_path, lambda tensors: tensors.update({"lm_head.weight": tensors["lm_head.weight"][1:]}))
        )


@pytest.mark.parametrize("changes", [{"head_dim": 32}, {"attention_bias": True}, {"hidden_size": 128}])
def test_tensors_that_do_not_fit_the_config_are_refused(changes: dict[str, object], tmp_path: Path) -> None:
    (MHA.write(tmp_path) / "config.json").write_text(json.dumps({**MHA.config(), **changes}))
    with pytest.raises(CheckpointRefused, match=r"shape|is in no weights file"):
        open_checkpoint(tmp_path)


def test_a_bias_that_config_does_not_mention_is_refused(tmp_path: Path) -> None:
    name = "model.layers.0.self_attn.q_proj.bias"
    with pytest.raises(CheckpointRefused, match=name):
        open_checkpoint(rewrite(tmp_path, lambda tensors: tensors.update({name: np.zeros(64, np.float32)})))


def test_a_tensor_in_two_files_is_refused(tmp_path: Path) -> None:
    (MHA.write(tmp_path) / "model.safetensors").rename(tmp_path / "model-0.safetensors")
    (tmp_path / "model-1.safetensors").write_bytes(pack({NORM: MHA.tensors()[NORM]}, F32))
    with pytest.raises(CheckpointRefused, match=r"in both model-0\.safetensors and model-1\.safetensors"):
        open_checkpoint(tmp_path)


# The file format


@pytest.mark.parametrize("keep", [0, 7, 8, 100, -1])
def test_a_truncated_file_is_refused_by_name(keep: int, tmp_path: Path) -> None:
    path = MHA.write(tmp_path) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointRefused, match=r"model\.safetensors is truncated"):
        open_checkpoint(tmp_path)


def entry(dtype: object = "F32", shape: object = (4,), offsets: object = (0, 16)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    ("start", "said"),
    [
        ((2**60).to_bytes(8, "little") + b"\0" * 100, f"claims a header of {2**60} bytes"),
        ((4).to_bytes(8, "little") + b"{{{{", "not valid JSON"),
        ((2).to_bytes(8, "little") + b"[]", "not a JSON object"),
        ((27).to_bytes(8, "little") + b'{"a": {"x": 1, "x": 2}}    ', "unique names"),
        ((200_000).to_bytes(8, "little") + b"[" * 200_000, "not valid JSON"),
        (pack_header({"a": entry(dtype="F128")}) + b"\0" * 16, "unknown dtype F128"),
        (pack_header({"a": entry(dtype=["F32"])}) + b"\0" * 16, "unknown dtype"),
        (pack_header({"a": entry(shape=[4, -1])}) + b"\0" * 16, "malformed"),
        (pack_header({"a": entry(shape=[2.0, 2])}) + b"\0" * 16, "malformed"),
        (pack_header({"a": entry(shape="4")}) + b"\0" * 16, "malformed"),
        (pack_header({"a": entry(offsets=[0, 16, 32])}) + b"\0" * 16, "malformed"),
        (pack_header({"a": 5}) + b"\0" * 16, "unknown dtype"),
        (pack_header({"a": entry(shape=[5])}) + b"\0" * 16, "takes 20"),
        (pack_header({"a": entry(shape=[2**62, 2**62])}) + b"\0" * 16, "takes"),
        (pack_header({"a": entry(), "b": entry(offsets=[8, 24])}) + b"\0" * 24, "overlap or a gap before tensor b"),
        (pack_header({"a": entry(), "b": entry(offsets=[20, 36])}) + b"\0" * 36, "overlap or a gap before tensor b"),
        (pack_header({"a": entry(offsets=[16, 0])}) + b"\0" * 16, "takes 16"),
        (pack_header({"a": entry()}) + b"\0" * 20, "4 bytes after its last tensor"),
        (pack_header({"a": entry(dtype="I8", shape=[16])}) + b"\0" * 16, "not part of the model"),
    ],
)
def test_a_malformed_file_is_refused_by_name(start: bytes, said: str, tmp_path: Path) -> None:
    (MHA.write(tmp_path) / "model.safetensors").write_bytes(start)
    with pytest.raises(CheckpointRefused, match=r"model\.safetensors") as refused:
        open_checkpoint(tmp_path)
    assert said in str(refused.value)


def test_a_dtype_that_is_not_read_is_refused_by_tensor(tmp_path: Path) -> None:
    path = MHA.write(tmp_path) / "model.safetensors"
    header, _, body = path.read_bytes()[8:].partition(b"}}")
    changed = json.loads(header + b"}}")
    changed[NORM] |= {"dtype": "I32"}
    padding = len(header) + 2 - len(json.dumps(changed))
    path.write_bytes(pack_header(changed) + body)
    assert padding == 0
    with pytest.raises(CheckpointRefused, match=r"model\.norm\.weight is I32"):
        open_checkpoint(tmp_path)


def test_a_refused_checkpoint_leaves_no_file_open(tmp_path: Path) -> None:
    replace(MHA, shards=3).write(tmp_path)
    (tmp_path / "model-00003-of-00003.safetensors").write_bytes(b"")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(CheckpointRefused):
        open_checkpoint(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before
