"""What holds for every architecture: estimates, limits, the identity of weights, and continued runs."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from corral.checkpoints.architectures.registry import read_shape
from corral.checkpoints.config import Config
from corral.engines.openvino.cache import ModelCache
from corral.engines.openvino.checkpoint import open_checkpoint
from corral.engines.openvino.content import model_key, weights_content
from corral.engines.openvino.estimate import look_ahead
from corral.engines.openvino.limits import read_limits
from corral.engines.openvino.memory import block_bytes
from corral.engines.openvino.options import KvPrecision, OpenVinoOptions, WeightsFormat
from corral.engines.openvino.stepper import OpenVinoStepper, convert_ahead
from tests.oracle.batches import ask, build_tiny, load_converted, run, silent
from tests.oracle.gguf_llama import GgufLlama
from tests.oracle.llama import TinyLlama
from tests.oracle.variants import LINEAR, LLAMA3, VARIANTS
from tests.vocabulary import PIECES

NAMES = ("llama, own head_dim", "mistral, own head_dim", "qwen2", "qwen3")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("precision", [KvPrecision.U8, KvPrecision.F32])
def test_a_block_of_the_cache_is_as_large_as_estimated(name: str, precision: KvPrecision, tmp_path: Path) -> None:
    info = build_tiny(VARIANTS[name], tmp_path).info
    pipeline = load_converted(tmp_path, blocks=10, precision=precision)
    run(OpenVinoStepper(pipeline, info), ask())  # the pool is made by the first step
    shape = read_shape(Config(file="config.json", values=VARIANTS[name].config()))
    assert pipeline.get_metrics().cache_size_in_bytes == 10 * block_bytes(shape, precision)


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q8_0"])
@pytest.mark.parametrize("name", ["llama", "qwen2", "qwen3"])
def test_converted_weights_are_as_large_as_estimated(name: str, kind: str, tmp_path: Path) -> None:
    held = GgufLlama(**{**asdict(VARIANTS[name]), "vocab": len(PIECES) + 5, "intermediate": 4096}, kind=kind)
    path = held.write_gguf(tmp_path / "tiny.gguf")
    options = OpenVinoOptions(checkpoint=str(path), cache_dir=str(tmp_path / "cache"))
    estimated = look_ahead(options).weights_bytes
    convert_ahead(options, silent)
    [converted] = tmp_path.glob("cache/models/*/openvino_model.bin")
    assert converted.stat().st_size == pytest.approx(estimated, rel=0.02)


def key_of(model: TinyLlama, directory: Path) -> str:
    with open_checkpoint(model.write(directory)) as checkpoint:
        digest = ModelCache(directory / "cache").digest_files(checkpoint.files, silent)
        return model_key(weights_content(checkpoint, digest), WeightsFormat.INT8)


def test_the_same_tensors_under_another_configuration_are_other_weights(tmp_path: Path) -> None:
    model = VARIANTS["llama"]
    variants = (
        model,
        replace(model, architecture="mistral"),
        replace(model, rope_scaling=dict(LINEAR)),
        replace(model, rope_scaling=dict(LLAMA3)),
        replace(model, rope_theta=5e5),
    )
    keys = {key_of(variant, tmp_path / str(number)) for number, variant in enumerate(variants)}
    assert len(keys) == len(variants)
    assert key_of(model, tmp_path / "again") in keys


def test_requests_are_limited_to_a_window(tmp_path: Path) -> None:
    model = replace(VARIANTS["mistral"], extra_config={"sliding_window": 96})
    options = OpenVinoOptions(checkpoint=str(model.write(tmp_path / "checkpoint")), cache_dir=str(tmp_path))
    assert read_limits(options, max_sequences=1).context_tokens == 96
    windowed = build_tiny(model, tmp_path / "windowed", weights=WeightsFormat.F32)
    assert windowed.info.context_tokens == 96
    full = build_tiny(VARIANTS["mistral"], tmp_path / "full", weights=WeightsFormat.F32, kv_blocks=16)
    asked = ask(max_new_tokens=92)
    assert run(windowed, asked)[0].ids == run(full, asked)[0].ids


@pytest.mark.parametrize("name", ["llama, llama3 scaling", "mistral", "qwen2", "qwen3"])
def test_a_continued_run_goes_on_as_if_uninterrupted(name: str, tmp_path: Path) -> None:
    stepper = build_tiny(replace(VARIANTS[name], dtype="F32"), tmp_path, kv_blocks=16)
    whole = run(stepper, ask(max_new_tokens=120))[0].ids
    for done in (1, 31, 60, 119):
        rest = run(stepper, ask(1, 5, 7, 9, *whole[:done], max_new_tokens=120 - done))[0].ids
        assert whole[:done] + rest == whole
