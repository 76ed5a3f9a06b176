"""Stored forms of weights: how far they are from the source, and how much memory making them takes."""

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.checkpoints.architectures.registry import read_shape
from corral.checkpoints.architectures.shape import ModelShape
from corral.checkpoints.config import Config
from corral.core.errors import CheckpointRefused
from corral.engines.openvino.checkpoint import open_checkpoint
from corral.engines.openvino.options import WeightsFormat
from corral.engines.openvino.quantize import activation_group, encode_rows, plan_tensors, write_tensors
from corral.engines.openvino.safetensors import Rows
from tests.oracle.llama import F32, MHA, TinyLlama, pack


def ignore(_count: int) -> None:
    """Nobody counts."""


def random_rows(rows: int, columns: int, seed: int = 0, scale: float = 0.02) -> Rows:
    return (np.random.default_rng(seed).standard_normal((rows, columns)) * scale).astype(np.float32)


def decode_int4(packed: np.ndarray, scales: np.ndarray, group: int) -> Rows:
    low, high = packed & 0xF, packed >> 4
    nibbles = np.stack([low, high], axis=-1).reshape(len(packed), -1).astype(np.int8)
    signed = np.where(nibbles > 7, nibbles - 16, nibbles).astype(np.float32)
    return (signed.reshape(len(packed), -1, group) * scales[:, :, None].astype(np.float32)).reshape(len(packed), -1)


@given(seed=st.integers(0, 2**32 - 1), exponent=st.integers(-6, 8))
def test_int8_is_within_half_a_step_of_the_source(seed: int, exponent: int) -> None:
    values = random_rows(4, 96, seed, 2.0**exponent)
    encoded = encode_rows(values, WeightsFormat.INT8, 96)
    stored, scales = encoded.values, encoded.scales
    assert scales is not None
    assert np.abs(stored).max() <= 127
    step = scales.astype(np.float32)
    # The last term is what rounding the scale to float16 costs the largest values.
    assert (np.abs(stored * step - values) <= step * 0.5001 + np.abs(values) * 2**-11).all()


@given(seed=st.integers(0, 2**32 - 1), exponent=st.integers(-6, 8))
def test_int4_is_within_a_step_of_the_source_and_exact_at_the_extreme(seed: int, exponent: int) -> None:
    values = random_rows(4, 128, seed, 2.0**exponent)
    encoded = encode_rows(values, WeightsFormat.INT4, 64)
    stored, scales = encoded.values, encoded.scales
    assert scales is not None
    decoded = decode_int4(stored, scales, 64)
    step = np.abs(scales.astype(np.float32)).repeat(64, axis=1)
    assert (np.abs(decoded - values) <= step * 1.01).all()
    assert (np.abs(decoded - values) <= step * 0.51).mean() > 0.9
    grouped = np.abs(values).reshape(4, 2, 64)
    extreme = np.take_along_axis(np.abs(decoded).reshape(4, 2, 64), grouped.argmax(axis=2)[..., None], axis=2)
    np.testing.assert_allclose(extreme[..., 0], grouped.max(axis=2), rtol=2**-10)


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=64))
def test_bf16_rounds_to_the_nearest_with_ties_to_even(numbers: list[float]) -> None:
    values = np.array([numbers], np.float32)
    stored = encode_rows(values, WeightsFormat.BF16, 0).values
    expected = values.view(np.uint32) >> 16
    remainder = values.view(np.uint32) & 0xFFFF
    up = (remainder > 0x8000) | ((remainder == 0x8000) & (expected & 1 == 1))
    np.testing.assert_array_equal(stored, expected + up)


@pytest.mark.parametrize("form", WeightsFormat)
def test_zeros_stay_zeros(form: WeightsFormat) -> None:
    encoded = encode_rows(np.zeros((2, 64), np.float32), form, 64 if "int" in form else 0)
    assert not encoded.values.any()
    assert encoded.scales is None or not encoded.scales.any()


@pytest.mark.parametrize("form", WeightsFormat)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_not_finite_is_refused_by_tensor(form: WeightsFormat, value: float, tmp_path: Path) -> None:
    tensors = MHA.tensors()
    tensors["model.layers.1.mlp.down_proj.weight"][40, 3] = value
    MHA.write(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(pack(tensors, F32))
    with open_checkpoint(tmp_path) as checkpoint, pytest.raises(CheckpointRefused, match=r"layers\.1\.mlp\.down_proj"):
        write_tensors(checkpoint, plan_tensors(checkpoint.shape, form), tmp_path / "blob", ignore)


class ZeroSource:
    """A source without a file behind it."""

    def __init__(self, shape: ModelShape) -> None:
        self._tensors = shape.tensors()

    def read_rows(self, name: str, start: int, stop: int) -> Rows:
        return np.zeros((stop - start, self._tensors[name][-1]), np.float32)


@pytest.mark.parametrize("form", [WeightsFormat.INT4, WeightsFormat.F32])
def test_no_tensor_is_ever_whole_in_memory(form: WeightsFormat, tmp_path: Path) -> None:
    shape = shape_of(TinyLlama(hidden=1024, intermediate=2048, heads=16, kv_heads=16, layers=1, vocab=20000))
    largest_bytes = 4 * 1024 * 20000
    tracemalloc.start()
    try:
        write_tensors(ZeroSource(shape), plan_tensors(shape, form), tmp_path / "blob", ignore)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < largest_bytes / 4


# The plan


def shape_of(model: TinyLlama) -> ModelShape:
    return read_shape(Config(file="config.json", values=model.config()))


SEVEN_B = TinyLlama(hidden=4096, intermediate=11008, layers=32, heads=32, kv_heads=32, vocab=32000, context_tokens=4096)


@pytest.mark.parametrize(("form", "gigabytes"), [("int4", 3.60), ("int8", 6.74), ("bf16", 13.5)])
def test_the_stored_size_of_a_7b_model(form: str, gigabytes: float) -> None:
    plan = plan_tensors(shape_of(SEVEN_B), WeightsFormat(form))
    assert plan[-1].end / 1e9 == pytest.approx(gigabytes, rel=0.01)


@pytest.mark.parametrize(
    ("columns", "form", "group"), [(256, "int4", 128), (192, "int4", 64), (96, "int4", 32), (80, "int8", 80)]
)
def test_int4_takes_the_largest_group_that_divides_and_else_int8(columns: int, form: str, group: int) -> None:
    plan = {
        tensor.name: tensor for tensor in plan_tensors(shape_of(replace(MHA, intermediate=columns)), WeightsFormat.INT4)
    }
    down = plan["model.layers.0.mlp.down_proj.weight"]
    assert (down.format, down.group) == (form, group)
    assert plan["lm_head.weight"].format is WeightsFormat.INT8
    assert plan["model.embed_tokens.weight"].format is WeightsFormat.INT8
    assert plan["model.norm.weight"].format is WeightsFormat.F32


@pytest.mark.parametrize(
    ("model", "form", "group"),
    [
        (SEVEN_B, "int4", 128),
        (SEVEN_B, "int8", 128),
        (SEVEN_B, "bf16", 0),
        (SEVEN_B, "f32", 0),
        (replace(SEVEN_B, intermediate=11008 + 32), "int4", 32),
        (MHA, "int8", 64),
    ],
)
def test_activations_are_never_quantized_in_larger_groups_than_weights(model: TinyLlama, form: str, group: int) -> None:
    plan = plan_tensors(shape_of(model), WeightsFormat(form))
    assert activation_group(plan) == group
    assert all(group <= tensor.group for tensor in plan if tensor.group)


@pytest.mark.parametrize("form", WeightsFormat)
def test_tensors_do_not_overlap_and_are_aligned(form: WeightsFormat) -> None:
    position = 0
    for tensor in plan_tensors(shape_of(MHA), form):
        assert tensor.offset >= position
        assert tensor.offset % 64 == tensor.scales_offset % 64 == 0
        assert tensor.scales_offset >= tensor.offset + tensor.size_bytes
        position = tensor.end
