"""Tensors of GGUF files: decoded bit for bit, kept bit for bit where that is promised, in the right order of rows."""

import tracemalloc
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind
from gguf.quants import dequantize

from corral.core.errors import CheckpointRefused
from corral.engines.openvino.checkpoint import open_checkpoint
from corral.engines.openvino.gguf_blocks import decode_rows, encode_exactly
from corral.engines.openvino.options import WeightsFormat
from corral.engines.openvino.quantize import StoredTensor, activation_group, plan_tensors, write_tensors
from corral.engines.openvino.safetensors import Rows
from tests.oracle.gguf_llama import K_QUANTS, KINDS, GgufLlama, finish, write_metadata

TINY = GgufLlama(kv_heads=2)
WIDE = GgufLlama(hidden=256, intermediate=512, heads=8, kv_heads=2)
Q_PROJ, DOWN_PROJ = "model.layers.1.self_attn.q_proj.weight", "model.layers.1.mlp.down_proj.weight"


def ignore(_count: int) -> None:
    """Nobody counts."""


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_of_any_bits_are_decoded_as_the_reference_decodes_them(kind: str) -> None:
    _, size_bytes = gguf.GGML_QUANT_SIZES[Kind[kind]]
    raw = np.random.default_rng(0).integers(0, 256, (50, 16 * size_bytes), np.uint8)
    with np.errstate(all="ignore"):
        expected = np.ascontiguousarray(dequantize(raw, Kind[kind]))
    np.testing.assert_array_equal(decode_rows(raw, kind).view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_come_back_in_transformers_order(kind: str, tmp_path: Path) -> None:
    model = replace(WIDE if kind in K_QUANTS else TINY, kind=kind)
    with open_checkpoint(model.write_gguf(tmp_path / "tiny.gguf")) as checkpoint:
        for name, tensor in model.tensors().items():
            rows = tensor if tensor.ndim == 2 else tensor[None]
            np.testing.assert_array_equal(checkpoint.read_rows(name, 0, len(rows)), rows)
            for start, stop in ((5, 6), (7, 30), (len(rows) - 1, len(rows))):
                if tensor.ndim == 2:
                    np.testing.assert_array_equal(checkpoint.read_rows(name, start, stop), rows[start:stop])


def stored(model: GgufLlama, weights: WeightsFormat, tmp_path: Path) -> dict[str, tuple[StoredTensor, Rows]]:
    """Every tensor as the engine computes with it, by what lies in the converted file."""
    with open_checkpoint(model.write_gguf(tmp_path / "tiny.gguf")) as checkpoint:
        plan = plan_tensors(checkpoint.shape, weights, checkpoint.held)
        write_tensors(checkpoint, plan, tmp_path / "blob", ignore)
    blob = (tmp_path / "blob").read_bytes()
    return {tensor.name: (tensor, decoded(blob, tensor)) for tensor in plan}


def decoded(blob: bytes, tensor: StoredTensor) -> Rows:
    raw = np.frombuffer(blob, np.uint8, tensor.size_bytes, tensor.offset)
    if tensor.format is WeightsFormat.F32:
        return raw.view(np.float32).reshape(tensor.rows, tensor.columns)
    if tensor.format is WeightsFormat.INT8:
        integers = raw.view(np.int8)
    else:
        nibbles = np.stack([raw & 0xF, raw >> 4], axis=-1).reshape(-1).astype(np.int8)
        integers = nibbles if tensor.zeros_bytes else np.where(nibbles > 7, nibbles - 16, nibbles)
    scales = np.frombuffer(blob, np.float16, tensor.scales_bytes // 2, tensor.scales_offset).astype(np.float32)
    values = integers.astype(np.float32).reshape(len(scales), tensor.group)
    if tensor.zeros_bytes:
        values = values - np.frombuffer(blob, np.float32, len(scales), tensor.zeros_offset)[:, None]
    values = values * scales[:, None]
    return values.reshape(tensor.rows, tensor.columns)


@pytest.mark.parametrize(("kind", "form"), [("Q8_0", "int8"), ("Q5_0", "int8"), ("Q4_0", "int4")])
@pytest.mark.parametrize("weights", [WeightsFormat.INT8, WeightsFormat.INT4])
def test_blocks_of_scaled_integers_are_kept_bit_for_bit(
    kind: str, form: str, weights: WeightsFormat, tmp_path: Path
) -> None:
    model = replace(TINY, kind=kind)
    found = stored(model, weights, tmp_path)
    for name, exact in model.tensors().items():
        tensor, values = found[name]
        np.testing.assert_array_equal(values, exact if exact.ndim == 2 else exact[None])
        assert (tensor.format, tensor.group) == ((form, 32) if exact.ndim == 2 else ("f32", 0))


@pytest.mark.parametrize("weights", [WeightsFormat.INT8, WeightsFormat.INT4])
def test_q4_1_is_kept_to_within_the_rounding_of_float32(weights: WeightsFormat, tmp_path: Path) -> None:
    model = replace(TINY, kind="Q4_1")
    found = stored(model, weights, tmp_path)
    for name, exact in model.tensors().items():
        tensor, values = found[name]
        if exact.ndim == 2:
            assert (tensor.format, tensor.group, tensor.zeros_bytes) == ("int4", 32, exact.size // 32 * 4)
            largest = np.abs(exact.reshape(len(exact), -1, 32)).max(axis=2).repeat(32, axis=1)
            assert (np.abs(values - exact) <= largest * 2**-21).all()


@pytest.mark.parametrize(("scale", "least"), [(0.0, 0.75), (0.0, 0.0), (2.0**-24, 60000.0), (-0.5, 3.0), (0.25, -2.0)])
def test_a_block_with_an_offset_means_the_same_whatever_its_numbers(scale: float, least: float) -> None:
    packed = np.random.default_rng(0).integers(0, 256, 16, np.uint8)
    block = np.concatenate([np.array([scale, least], "<f2").view(np.uint8), packed])[None]
    encoded = encode_exactly(block, "Q4_1")
    assert encoded.scales is not None
    assert encoded.zeros is not None
    pairs = encoded.values.view(np.uint8)
    integers = np.stack([pairs & 0xF, pairs >> 4], axis=-1).reshape(1, 32).astype(np.float32)
    values = (integers - encoded.zeros) * encoded.scales.astype(np.float32)
    np.testing.assert_allclose(values, decode_rows(block, "Q4_1"), rtol=2**-21)


@pytest.mark.parametrize("kind", ["Q5_1", *K_QUANTS])
def test_other_blocks_become_int8_in_groups_of_32(kind: str, tmp_path: Path) -> None:
    model = replace(WIDE, kind=kind)
    found = stored(model, WeightsFormat.INT8, tmp_path)
    for name, exact in model.tensors().items():
        tensor, values = found[name]
        if exact.ndim == 2:
            assert (tensor.format, tensor.group) == ("int8", 32)
            largest = np.abs(exact.reshape(len(exact), -1, 32)).max(axis=2).repeat(32, axis=1)
            assert (np.abs(values - exact) <= largest * (0.501 / 127 + 2**-11)).all()


def test_a_mixture_keeps_each_of_its_kinds_and_floats_are_as_asked_for(tmp_path: Path) -> None:
    model = replace(WIDE, kind="Q4_0", mixture={"down_proj": "Q6_K", "lm_head": "Q8_0", "o_proj": "F16"})
    plan = {name: tensor for name, (tensor, _) in stored(model, WeightsFormat.INT4, tmp_path).items()}
    forms = {name: (plan[name].format, plan[name].group) for name in (Q_PROJ, DOWN_PROJ, "lm_head.weight")}
    assert forms == {Q_PROJ: ("int4", 32), DOWN_PROJ: ("int8", 32), "lm_head.weight": ("int8", 32)}
    o_proj = plan["model.layers.1.self_attn.o_proj.weight"]
    assert (o_proj.format, o_proj.group) == ("int4", 128)
    assert activation_group(list(plan.values())) == 32


@pytest.mark.parametrize("weights", [WeightsFormat.F32, WeightsFormat.BF16])
def test_floats_can_be_asked_for_instead(weights: WeightsFormat, tmp_path: Path) -> None:
    with open_checkpoint(replace(TINY, kind="Q8_0").write_gguf(tmp_path / "tiny.gguf")) as checkpoint:
        plan = plan_tensors(checkpoint.shape, weights, checkpoint.held)
    assert {tensor.format for tensor in plan} <= {weights, WeightsFormat.F32}
    assert activation_group(plan) == 0


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q8_0", "Q5_1", "Q4_K"])
@pytest.mark.parametrize("scale", [np.nan, np.inf])
def test_a_scale_that_is_not_finite_is_refused_by_tensor(kind: str, scale: float, tmp_path: Path) -> None:
    path = replace(WIDE, kind=kind).write_gguf(tmp_path / "tiny.gguf")
    with open_checkpoint(path) as checkpoint:
        reader = gguf.GGUFReader(path)
        [entry] = [tensor for tensor in reader.tensors if tensor.name == "blk.1.ffn_down.weight"]
        with path.open("r+b") as file:
            file.seek(entry.data_offset)
            file.write(np.array([scale], "<f2").tobytes())
        plan = plan_tensors(checkpoint.shape, WeightsFormat.INT8, checkpoint.held)
        with pytest.raises(CheckpointRefused, match=r"layers\.1\.mlp\.down_proj.*not finite"):
            write_tensors(checkpoint, plan, tmp_path / "blob", ignore)


def test_int4_counts_up_from_minus_eight() -> None:
    block = np.array([*np.array([2.0], "<f2").view(np.uint8), *[0x0F] * 8, *[0x80] * 8], np.uint8)[None]
    encoded = encode_exactly(block, "Q4_0")
    assert encoded.scales is not None
    assert encoded.scales.tolist() == [[2.0]]
    assert encoded.values.tolist() == [[*[0x77] * 4, *[0x88] * 4, *[0x88] * 4, *[0x00] * 4]]


@pytest.mark.parametrize("kind", ["Q4_0", "Q6_K"])
def test_no_tensor_of_a_gguf_file_is_ever_whole_in_memory(kind: str, tmp_path: Path) -> None:
    model = GgufLlama(hidden=1024, intermediate=1024, heads=8, kv_heads=8, layers=1, vocab=10_000, tied=True, kind=kind)
    with open_checkpoint(model.write_gguf(tmp_path / "tiny.gguf")) as checkpoint:
        plan = plan_tensors(checkpoint.shape, WeightsFormat.INT8, checkpoint.held)
        tracemalloc.start()
        try:
            write_tensors(checkpoint, plan, tmp_path / "blob", ignore)
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak_bytes < 4 * 1024 * 10_000 / 2


# Tensors that are not the model's


def rewrite(tmp_path: Path, changes: dict[str, tuple[str, np.ndarray] | None]) -> Path:
    """The tiny model with tensors replaced, added or left out, by their names in the file."""
    source = gguf.GGUFReader(replace(TINY, kind="F32").write_gguf(tmp_path / "source.gguf"))
    tensors = {tensor.name: (tensor.name, np.array(tensor.data)) for tensor in source.tensors} | changes
    metadata = replace(TINY, kind="F32").metadata()
    writer = gguf.GGUFWriter(tmp_path / "tiny.gguf", "llama")
    write_metadata(writer, metadata)
    for entry in tensors.values():
        if entry is not None:
            writer.add_tensor(*entry)
    finish(writer)
    return tmp_path / "tiny.gguf"


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("blk.1.ffn_up.weight", None, "lacks the tensor blk.1.ffn_up.weight"),
        ("blk.1.ffn_up.weight", (64, 160), "gives tensor blk.1.ffn_up.weight shape [64, 160]; its metadata asks for"),
        ("output_norm.weight", (1, 64), "gives tensor output_norm.weight shape [1, 64]"),
        ("blk.0.attn_q.bias", (64,), "lacks the tensor blk.0.attn_k.bias"),
        ("blk.1.attn_q.bias", (64,), "holds the tensor blk.1.attn_q.bias, which is not part of the model"),
        ("blk.0.attn_q_norm.weight", (16,), "holds the tensor blk.0.attn_q_norm.weight"),
        ("blk.2.attn_norm.weight", (64,), "holds the tensor blk.2.attn_norm.weight"),
        ("rope_freqs.weight", (8, 2), "holds the tensor rope_freqs.weight as F32 of shape [8, 2]"),
        ("rope_factors_long.weight", (8,), "holds the tensor rope_factors_long.weight"),
    ],
)
def test_a_missing_misshaped_or_foreign_tensor_is_refused_by_name(
    name: str, values: tuple[int, ...] | None, said: str, tmp_path: Path
) -> None:
    entry = None if values is None else (name, np.ones(values, np.float32))
    with pytest.raises(CheckpointRefused, match=r"^tiny\.gguf ") as refused:
        open_checkpoint(rewrite(tmp_path, {name: entry}))
    assert said in str(refused.value)
