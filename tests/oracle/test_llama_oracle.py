"""The engine against a naive forward pass in NumPy: same tokens in f32, close distributions when quantized."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from corral.core.generation import Constraint, Sampling
from corral.engines.base import EndReason
from corral.engines.openvino.options import OpenVinoOptions, WeightsFormat
from corral.engines.openvino.stepper import OpenVinoStepper, build_stepper
from tests.oracle.batches import ask, build_tiny, run, silent
from tests.oracle.graphs import divergence, logits_of_graph
from tests.oracle.llama import BF16, F16, GQA, MHA, TIED_MQA, TinyLlama, forward, softmax
from tests.vocabulary import PIECES, write_with_vocabulary

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


@pytest.mark.parametrize("tokens", [1, 2, 31, 32, 33, 64, 150])
@pytest.mark.parametrize("new_tokens", [0, 4])
def test_echoed_log_probabilities_equal_a_naive_forward_pass_however_often_the_prompt_comes(
    echoing: OpenVinoStepper, tokens: int, new_tokens: int
) -> None:
    prompt = tuple(np.random.default_rng(tokens).integers(3, GQA.vocab, tokens).tolist())
    asked = replace(ask(*prompt, max_new_tokens=new_tokens), echo=True)
    exact = np.log(softmax(forward(GQA, list(prompt))))[range(tokens - 1), prompt[1:]]
    for answer in [*run(echoing, asked), *run(echoing, asked, asked)]:
        assert answer.prompt_logprobs is not None
        np.testing.assert_allclose(answer.prompt_logprobs, exact, atol=1e-3)
        assert (len(answer.ids), answer.end) == (new_tokens, EndReason.LENGTH)


def test_log_probabilities_are_of_the_model_itself_before_constraint_and_penalties(tmp_path: Path) -> None:
    model = replace(GQA, vocab=len(PIECES) + 5)
    checkpoint = write_with_vocabulary(model, tmp_path / "checkpoint")
    options = OpenVinoOptions(
        checkpoint=str(checkpoint), cache_dir=str(tmp_path), weights=WeightsFormat.F32, kv_blocks=32
    )
    sampling = Sampling(temperature=2.0, top_k=50, repetition_penalty=1.3, presence_penalty=1.0)
    asked = ask(*PROMPT, max_new_tokens=60, sampling=sampling, ignore_eos=False)
    constraint = Constraint(kind="regex", source="[a-z]{40,50}")
    [answer] = run(build_stepper(options, silent), replace(asked, constraint=constraint))
    exact = np.log(softmax(forward(model, PROMPT + answer.ids)))[len(PROMPT) - 1 : -1]
    assert len(answer.ids) > 10
    np.testing.assert_allclose(answer.logprobs, exact[range(len(answer.ids)), answer.ids], atol=1e-3)


def test_an_echo_leaves_the_answer_as_it_is(echoing: OpenVinoStepper) -> None:
    sampling = Sampling(temperature=1.0, repetition_penalty=1.5, frequency_penalty=0.5)
    plain = ask(1, 5, 7, 9, max_new_tokens=30, sampling=sampling, seed=3)
    [alone] = run(echoing, plain)
    [echoed] = run(echoing, replace(plain, echo=True))
    assert (echoed.ids, echoed.logprobs) == (alone.ids, alone.logprobs)


@pytest.fixture(scope="module")
def echoing(tmp_path_factory: pytest.TempPathFactory) -> OpenVinoStepper:
    """Chunks of 64, so that a prompt takes several steps; prompts are cached."""
    directory = tmp_path_factory.mktemp("echo")
    return build_tiny(GQA, directory, weights=WeightsFormat.F32, max_batched_tokens=64, kv_blocks=32)


WIDE = TinyLlama(hidden=256, intermediate=512, heads=8, attention_gain=1.0, logit_gain=1.0, seed=4)
KL_LIMITS = {WeightsFormat.F32: 1e-9, WeightsFormat.BF16: 1e-4, WeightsFormat.INT8: 1e-3, WeightsFormat.INT4: 0.05}
"""Mean Kullback-Leibler divergence from the exact model, in nats; random weights are the worst case for int4."""


@pytest.mark.parametrize("kv_heads", [8, 2], ids=["MHA", "GQA"])
@pytest.mark.parametrize("weights", KL_LIMITS)
def test_quantized_weights_stay_close_to_the_f32_distribution(
    weights: WeightsFormat, kv_heads: int, tmp_path: Path
) -> None:
    model = replace(WIDE, kv_heads=kv_heads)
    ids = np.random.default_rng(0).integers(3, model.vocab, 128).tolist()
    exact = softmax(forward(model, ids))
    stored = softmax(logits_of_graph(model.write(tmp_path / "checkpoint"), weights, ids, tmp_path))
    assert divergence(exact, stored) < KL_LIMITS[weights]
