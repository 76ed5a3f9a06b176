"""The engine against a naive forward pass in NumPy: same tokens in f32, close distributions when quantized."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import openvino as ov
import pytest

from corral.engines.openvino.cache import ModelCache
from corral.engines.openvino.checkpoint import Checkpoint
from corral.engines.openvino.convert import obtain_model
from corral.engines.openvino.options import WeightsFormat
from corral.engines.openvino.quantize import activation_group, plan_tensors
from tests.oracle.batches import ask, build_tiny, run, silent
from tests.oracle.llama import BF16, F16, GQA, MHA, TIED_MQA, Floats, TinyLlama, forward, softmax

PROMPT = [1, 5, 7, 9]

MODELS = {
    "MHA in one F32 file": MHA,
    "GQA in one F32 file": GQA,
    "tied MQA": TIED_MQA,
    "MHA in three BF16 shards": replace(MHA, dtype=BF16, shards=3),
    "GQA in two F16 shards": replace(GQA, dtype=F16, shards=2),
    "long rope_theta, coarse rms_norm_eps": replace(GQA, rope_theta=1e6, rms_norm_eps=1e-2),
}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
def test_greedy_tokens_in_f32_equal_a_naive_forward_pass(model: TinyLlama, tmp_path: Path) -> None:
    [answer] = run(build_tiny(model, tmp_path, weights=WeightsFormat.F32), ask(*PROMPT, max_new_tokens=64))
    # One pass over prompt and answer says which token the exact model puts after each beginning of it.
    exact = softmax(forward(model, PROMPT + answer.ids))[len(PROMPT) - 1 : -1]
    assert answer.ids == exact.argmax(axis=-1).tolist()
    assert len(answer.ids) == 64
    assert len(set(answer.ids)) > 30, "a model that repeats itself proves little"
    np.testing.assert_allclose(answer.logprobs, np.log(exact.max(axis=-1)), atol=1e-3)


WIDE = TinyLlama(hidden=256, intermediate=512, heads=8, attention_gain=1.0, logit_gain=1.0, seed=4)
KL_LIMITS = {WeightsFormat.F32: 1e-9, WeightsFormat.BF16: 1e-4, WeightsFormat.INT8: 1e-3, WeightsFormat.INT4: 0.05}
"""Mean Kullback-Leibler divergence from the exact model, in nats; random weights are the worst case for int4."""


@pytest.mark.parametrize("kv_heads", [8, 2], ids=["MHA", "GQA"])
@pytest.mark.parametrize("weights", KL_LIMITS)
def test_stored_weights_stay_close_to_the_exact_distribution(
    weights: WeightsFormat, kv_heads: int, tmp_path: Path
) -> None:
    model = replace(WIDE, kv_heads=kv_heads)
    ids = np.random.default_rng(0).integers(3, model.vocab, 128).tolist()
    exact = softmax(forward(model, ids))
    stored = softmax(logits_of_graph(model, weights, ids, tmp_path))
    divergence = (exact * np.log(exact / stored)).sum(axis=-1).mean()
    assert divergence < KL_LIMITS[weights]


def logits_of_graph(model: TinyLlama, weights: WeightsFormat, ids: list[int], directory: Path) -> Floats:
    """Logits ``(tokens, vocab)`` of the converted graph in its stateful form, read in two parts."""
    with Checkpoint(model.write(directory / "checkpoint")) as checkpoint:
        plan = plan_tensors(checkpoint.shape, weights)
        converted = obtain_model(checkpoint, weights, plan, ModelCache(directory), silent)
    properties = {
        "INFERENCE_PRECISION_HINT": "f32",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": activation_group(plan),
        "KV_CACHE_PRECISION": "f32",
    }
    compiled = ov.Core().compile_model(converted / "openvino_model.xml", "CPU", properties)
    inference = compiled.create_infer_request()
    parts: list[Floats] = []
    for start, stop in ((0, 100), (100, len(ids))):
        inputs = {
            "input_ids": np.array([ids[start:stop]], np.int64),
            "attention_mask": np.ones((1, stop), np.int64),
            "position_ids": np.arange(start, stop, dtype=np.int64)[None],
            "beam_idx": np.zeros(1, np.int32),
        }
        parts.append(inference.infer(inputs)["logits"][0].astype(np.float64))
    return np.concatenate(parts)
