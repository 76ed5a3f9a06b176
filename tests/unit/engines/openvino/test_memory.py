"""Size of the KV pool."""

from dataclasses import replace
from pathlib import Path

import pytest

from corral.checkpoints.architectures.registry import read_shape
from corral.checkpoints.architectures.shape import ModelShape
from corral.checkpoints.config import Config
from corral.core.errors import BadSetting
from corral.engines.openvino.memory import available_bytes, block_bytes, choose_blocks, choose_precision
from corral.engines.openvino.options import KvPrecision, OpenVinoOptions
from corral.engines.openvino.stepper import OpenVinoStepper
from tests.oracle.batches import ask, build_tiny, load_converted, run
from tests.oracle.llama import GQA, TinyLlama

GIB = 2**30


def shape_of(model: TinyLlama) -> ModelShape:
    return read_shape(Config(file="config.json", values=model.config()))


TINY_LLAMA_1B = shape_of(TinyLlama(hidden=2048, intermediate=5632, layers=22, heads=32, kv_heads=4, vocab=32000))
LLAMA_7B = shape_of(TinyLlama(hidden=4096, intermediate=11008, layers=32, heads=32, kv_heads=32, vocab=32000))


@pytest.mark.parametrize(
    ("shape", "context_tokens", "precision"),
    [
        (TINY_LLAMA_1B, 2048, KvPrecision.F32),
        (LLAMA_7B, 4096, KvPrecision.U8),
        (LLAMA_7B, 512, KvPrecision.F32),
        (LLAMA_7B, 544, KvPrecision.U8),
    ],
)
def test_precision_is_exact_while_a_context_is_small(
    shape: ModelShape, context_tokens: int, precision: KvPrecision
) -> None:
    assert choose_precision(shape, context_tokens) is precision


def test_the_pool_is_a_quarter_of_memory_within_one_and_sixteen_contexts() -> None:
    shape, precision = TINY_LLAMA_1B, KvPrecision.F32
    assert choose_blocks(shape, 2048, precision, available=0) == 64
    assert choose_blocks(shape, 2048, precision, available=1000 * GIB) == 16 * 64
    assert choose_blocks(shape, 2048, precision, available=4 * GIB) == GIB // block_bytes(shape, precision)


def test_a_context_that_is_no_multiple_of_a_block_is_rounded_up() -> None:
    assert choose_blocks(TINY_LLAMA_1B, 33, KvPrecision.F32, available=0) == 2


@pytest.mark.parametrize("precision", KvPrecision)
def test_a_block_is_as_large_as_the_pipeline_makes_it(precision: KvPrecision, tmp_path: Path) -> None:
    info = build_tiny(GQA, tmp_path).info
    pipeline = load_converted(tmp_path, blocks=10, precision=precision)
    run(OpenVinoStepper(pipeline, info), ask())  # the pool is made by the first step
    metrics = pipeline.get_metrics()
    assert metrics.cache_size_in_bytes == 10 * block_bytes(shape_of(GQA), precision)


def test_physical_memory_is_detected() -> None:
    assert 2**24 < available_bytes() < 2**50


@pytest.mark.parametrize(
    ("name", "value"), [("kv_blocks", 0), ("context_tokens", 1), ("max_batched_tokens", 8), ("kv_blocks", 2**30)]
)
def test_options_out_of_range_are_refused_by_name(name: str, value: int) -> None:
    options = OpenVinoOptions(checkpoint="here", cache_dir="there")
    with pytest.raises(BadSetting, match=name):
        replace(options, **{name: value})
