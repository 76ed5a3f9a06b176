"""Every architecture against a naive forward pass in NumPy, from safetensors and from GGUF files."""

import re
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from corral.core.generation import Constraint
from corral.engines.openvino.options import OpenVinoOptions, WeightsFormat
from corral.engines.openvino.stepper import OpenVinoStepper, build_stepper
from tests.oracle.batches import Answer, ask, build_tiny, run, silent
from tests.oracle.gguf_llama import GgufLlama
from tests.oracle.graphs import divergence, logits_of_graph
from tests.oracle.llama import TinyLlama, forward, softmax
from tests.oracle.variants import VARIANTS
from tests.vocabulary import PIECES, text_of

PROMPT = [1, 5, 7, 9]


def as_gguf(model: TinyLlama, kind: str = "F32") -> GgufLlama:
    """The same sizes with the weights that a GGUF file of one kind can hold, and room for its vocabulary."""
    fields = {**asdict(model), "dtype": "F32", "vocab": len(PIECES) + 5}
    return GgufLlama(**fields, kind=kind)


def check_greedy(model: TinyLlama, answer: Answer) -> None:
    """One pass over prompt and answer says which token the exact model puts after each beginning of it."""
    exact = softmax(forward(model, PROMPT + answer.ids))[len(PROMPT) - 1 : -1]
    assert answer.ids == exact.argmax(axis=-1).tolist()
    assert len(answer.ids) == 64
    assert len(set(answer.ids)) > 20, "a model that repeats itself proves little"
    np.testing.assert_allclose(answer.logprobs, np.log(exact.max(axis=-1)), atol=1e-3)


def build_gguf(model: GgufLlama, directory: Path, **options: object) -> OpenVinoStepper:
    path = model.write_gguf(directory / "tiny.gguf")
    chosen = {"checkpoint": str(path), "cache_dir": str(directory / "cache"), "kv_blocks": 16, **options}
    return build_stepper(OpenVinoOptions(**chosen), silent)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("model", VARIANTS.values(), ids=VARIANTS.keys())
def test_greedy_tokens_from_safetensors_equal_a_naive_forward_pass(model: TinyLlama, tmp_path: Path) -> None:
    stepper = build_tiny(model, tmp_path, weights=WeightsFormat.F32, kv_blocks=16)
    [answer] = run(stepper, ask(*PROMPT, max_new_tokens=64))
    check_greedy(model, answer)


@pytest.mark.parametrize("model", VARIANTS.values(), ids=VARIANTS.keys())
def test_greedy_tokens_from_a_gguf_file_equal_a_naive_forward_pass(model: TinyLlama, tmp_path: Path) -> None:
    held = as_gguf(model)
    stepper = build_gguf(held, tmp_path, weights=WeightsFormat.F32)
    [answer] = run(stepper, ask(*PROMPT, max_new_tokens=64))
    check_greedy(held, answer)


KL_LIMITS = {WeightsFormat.INT8: 1e-3, WeightsFormat.INT4: 0.05}
"""The limits of Llama's, in nats, over models of the same width."""
GGUF_KL_LIMIT = 1e-3


def widened(model: TinyLlama) -> TinyLlama:
    """The same variant as wide as the models for which the limits stand."""
    return replace(model, hidden=256, intermediate=512, heads=8, attention_gain=1.0, logit_gain=1.0, dtype="F32")


WIDE = {
    name: widened(VARIANTS[name]) for name in ("llama, llama3 scaling", "llama, biases", "mistral", "qwen2", "qwen3")
}


@pytest.mark.parametrize("weights", KL_LIMITS)
@pytest.mark.parametrize("model", WIDE.values(), ids=WIDE.keys())
def test_quantized_weights_stay_close_to_the_f32_distribution(
    model: TinyLlama, weights: WeightsFormat, tmp_path: Path
) -> None:
    ids = np.random.default_rng(0).integers(3, model.vocab, 128).tolist()
    exact = softmax(forward(model, ids))
    stored = softmax(logits_of_graph(model.write(tmp_path / "checkpoint"), weights, ids, tmp_path))
    found = divergence(exact, stored)
    assert found < KL_LIMITS[weights]


@pytest.mark.parametrize("kind", ["Q4_0", "Q8_0"])
@pytest.mark.parametrize("model", WIDE.values(), ids=WIDE.keys())
def test_default_conversion_stays_close_to_the_gguf_distribution(model: TinyLlama, kind: str, tmp_path: Path) -> None:
    held = as_gguf(model, kind)
    ids = np.random.default_rng(0).integers(3, held.vocab, 128).tolist()
    exact = softmax(forward(held, ids))
    stored = softmax(logits_of_graph(held.write_gguf(tmp_path / "tiny.gguf"), WeightsFormat.INT8, ids, tmp_path))
    found = divergence(exact, stored)
    assert found < GGUF_KL_LIMIT


@pytest.mark.parametrize("name", ["mistral", "qwen2", "qwen3"])
def test_a_constraint_is_tried_and_holds_on_every_architecture(name: str, tmp_path: Path) -> None:
    model = as_gguf(VARIANTS[name])
    constrained = replace(
        ask(*PROMPT, max_new_tokens=30, ignore_eos=False), constraint=Constraint(kind="regex", source="[a-z]{3,5}")
    )
    for checker in (True, False):
        stepper = build_gguf(model, tmp_path / str(checker), checker_model=checker)
        [answer] = run(stepper, constrained)
        assert re.fullmatch(rb"[a-z]{3,5}", text_of(answer.ids))
