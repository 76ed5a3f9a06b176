"""Configurations of every architecture: what they mean, and what is refused by field, value and remedy."""

import json
from dataclasses import replace
from math import nan

import numpy as np
import pytest

from corral.checkpoints.architectures.registry import read_shape
from corral.checkpoints.architectures.shape import ModelShape, Rope
from corral.checkpoints.config import Config
from corral.core.errors import CheckpointRefused
from tests.oracle.llama import TinyLlama, frequencies
from tests.oracle.variants import LINEAR, LLAMA3, VARIANTS

LLAMA = TinyLlama(kv_heads=2)
MISTRAL = replace(LLAMA, architecture="mistral")
QWEN2 = replace(LLAMA, architecture="qwen2")
QWEN3 = replace(LLAMA, architecture="qwen3", own_head_dim=32)


def read(model: TinyLlama, **changes: object) -> ModelShape:
    return read_shape(Config(file="config.json", values={**model.config(), **changes}))


def without(model: TinyLlama, *fields: str) -> ModelShape:
    values = {field: value for field, value in model.config().items() if field not in fields}
    return read_shape(Config(file="config.json", values=values))


def refusal(model: TinyLlama, **changes: object) -> str:
    with pytest.raises(CheckpointRefused) as refused:
        read(model, **changes)
    return str(refused.value)


@pytest.mark.parametrize("model", VARIANTS.values(), ids=VARIANTS.keys())
def test_tensors_and_frequencies_are_those_of_the_model(model: TinyLlama) -> None:
    shape = read(model)
    assert shape.tensors() == {name: tensor.shape for name, tensor in model.tensors().items()}
    assert shape.parameters == sum(tensor.size for tensor in model.tensors().values())
    rope = shape.attention.rope
    np.testing.assert_allclose(rope.frequencies(model.head_dim), frequencies(model), rtol=1e-12)


# Rotary positions


@pytest.mark.parametrize("scaling", [LLAMA3, LINEAR, {"rope_type": "default"}])
def test_new_files_put_theta_and_scaling_into_one_object(scaling: dict[str, object]) -> None:
    old = read(LLAMA, rope_theta=5e5, rope_scaling=scaling)
    new = read(LLAMA, rope_theta=None, rope_scaling=None, rope_parameters={**scaling, "rope_theta": 5e5})
    assert old == new
    assert old.attention.rope.theta == 5e5


def test_old_files_name_the_kind_of_scaling_type() -> None:
    assert read(LLAMA, rope_scaling={"type": "linear", "factor": 4}) == read(LLAMA, rope_scaling=LINEAR)


def test_a_factor_of_one_scales_nothing() -> None:
    assert read(LLAMA, rope_scaling={**LINEAR, "factor": 1.0}).attention.rope == Rope(theta=10_000.0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, 'rope_scaling.rope_type is "yarn"; only "default", '),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, 'rope_scaling.type is "dynamic"; only "default", '),
        ({"rope_scaling": {"type": "longrope", "short_factor": [1.0]}}, 'rope_scaling.type is "longrope"; only '),
        ({"rope_scaling": {"type": "su"}}, 'rope_scaling.type is "su"; only '),
        ({"rope_scaling": {"type": "linear", "rope_type": "llama3"}}, 'rope_scaling.type is "linear"; only "llama3"'),
        ({"rope_scaling": {"rope_type": None}}, "rope_scaling.rope_type is null; only "),
        ({"rope_scaling": "linear"}, 'rope_scaling is "linear"; it must be an object'),
        ({"rope_scaling": {"rope_type": "linear"}}, "rope_scaling.factor is missing; it must be a number"),
        ({"rope_scaling": {**LINEAR, "factor": 0}}, "rope_scaling.factor is 0; it must be a number"),
        ({"rope_scaling": {**LINEAR, "factor": nan}}, "rope_scaling.factor is NaN; it must be a number"),
        ({"rope_scaling": {**LINEAR, "mscale": 0.7}}, "rope_scaling.mscale is 0.7; it has no known meaning"),
        ({"rope_scaling": {"rope_type": "default", "factor": 2.0}}, "rope_scaling.factor is 2.0; it has no known"),
        ({"rope_scaling": {**LLAMA3, "low_freq_factor": None}}, "rope_scaling.low_freq_factor is null; it must be"),
        (
            {"rope_scaling": {**LLAMA3, "high_freq_factor": 1.0}},
            "rope_scaling.high_freq_factor is 1.0; it must be above",
        ),
        (
            {"rope_scaling": {**LLAMA3, "original_max_position_embeddings": 8192.0}},
            "rope_scaling.original_max_position_embeddings is 8192.0; it must be an integer",
        ),
        (
            {"rope_scaling": LLAMA3, "original_max_position_embeddings": 64},
            "original_max_position_embeddings is 64; the scaling of positions says 32",
        ),
        ({"rope_scaling": LINEAR, "rope_parameters": LINEAR}, "rope_parameters is there too"),
        ({"rope_parameters": {"full_attention": {"rope_theta": 1e6}}}, "rope_parameters.full_attention is {"),
        ({"rope_parameters": {"rope_theta": -1}}, "rope_parameters.rope_theta is -1; it must be a number"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "rope_parameters.partial_rotary_factor is 0.5; only 1.0"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5; only 1.0 is supported"),
    ],
)
def test_scaling_that_is_not_computed_is_refused_by_field_and_value(changes: dict[str, object], said: str) -> None:
    assert said in refusal(LLAMA, **changes)


def test_a_refused_scaling_says_what_to_do() -> None:
    said = refusal(QWEN2, rope_scaling={"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768})
    assert said.endswith("remove it if it was only added for longer prompts, else choose another checkpoint.")


# Windows


def test_a_window_as_long_as_the_context_limits_nothing() -> None:
    shape = read(MISTRAL, sliding_window=512)
    assert (shape.context_tokens, shape.context_note) == (512, None)


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        (MISTRAL, {"sliding_window": 100}),
        (QWEN2, {"sliding_window": 100, "use_sliding_window": True, "max_window_layers": 1}),
        (
            QWEN2,
            {"sliding_window": 100, "use_sliding_window": True, "layer_types": ["full_attention", "sliding_attention"]},
        ),
        (QWEN3, {"sliding_window": 100, "use_sliding_window": True}),
    ],
)
def test_a_shorter_window_limits_the_context_and_says_so(model: TinyLlama, changes: dict[str, object]) -> None:
    shape = read(model, **changes)
    assert shape.context_tokens == 100
    assert shape.context_note is not None
    assert "limited to 100 of the model's 512 tokens" in shape.context_note


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        (MISTRAL, {"sliding_window": None}),
        (QWEN2, {"sliding_window": 100}),
        (QWEN2, {"sliding_window": 100, "use_sliding_window": True, "max_window_layers": 2}),
        (QWEN2, {"sliding_window": None, "use_sliding_window": True}),
        (QWEN2, {"sliding_window": 100, "use_sliding_window": True, "layer_types": ["full_attention"] * 2}),
        (QWEN3, {"sliding_window": 100, "layer_types": ["full_attention"] * 2}),
        (LLAMA, {"layer_types": ["full_attention"] * 2}),
    ],
)
def test_a_window_that_is_switched_off_does_not_count(model: TinyLlama, changes: dict[str, object]) -> None:
    assert read(model, **changes).context_tokens == 512


def test_a_mistral_without_the_field_has_the_window_of_the_first_one() -> None:
    long = replace(MISTRAL, context_tokens=32768)
    assert without(long, "sliding_window").context_tokens == 4096


@pytest.mark.parametrize(
    ("model", "changes", "said"),
    [
        (LLAMA, {"sliding_window": 4096}, "sliding_window is 4096; only null is supported"),
        (LLAMA, {"layer_types": ["sliding_attention"] * 2}, 'layer_types is ["sliding_attention", '),
        (QWEN3, {"layer_types": ["chunked_attention"] * 2}, 'only "full_attention" and "sliding_attention"'),
        (QWEN2, {"layer_types": "full"}, 'layer_types is "full"; only'),
        (MISTRAL, {"sliding_window": 0}, "sliding_window is 0; it must be an integer"),
        (MISTRAL, {"sliding_window": True}, "sliding_window is true; it must be an integer"),
        (QWEN2, {"use_sliding_window": None}, "use_sliding_window is null; it must be true or false"),
    ],
)
def test_a_window_that_means_nothing_is_refused(model: TinyLlama, changes: dict[str, object], said: str) -> None:
    assert said in refusal(model, **changes)


# Defaults of each architecture


def test_missing_fields_mean_what_the_publishers_code_means() -> None:
    wide = replace(LLAMA, hidden=512, heads=64)
    assert without(wide, "num_key_value_heads").attention.kv_heads == 64
    assert without(replace(wide, architecture="mistral"), "num_key_value_heads").attention.kv_heads == 8
    assert without(replace(wide, architecture="qwen2"), "num_key_value_heads").attention.kv_heads == 32
    assert without(replace(wide, architecture="qwen3"), "head_dim").attention.head_dim == 128
    assert without(wide, "head_dim").attention.head_dim == 8
    assert read(replace(wide, architecture="qwen2"), num_key_value_heads=None).attention.kv_heads == 64
    assert without(wide, "rms_norm_eps").rms_norm_eps == 1e-6
    assert not without(replace(wide, tied=True), "tie_word_embeddings").tied_embeddings


def test_qwen2_has_biases_whatever_its_fields_say() -> None:
    for shape in (read(QWEN2), read(QWEN2, attention_bias=False)):
        assert (shape.attention.qkv_bias, shape.attention.output_bias) == (True, False)


# What no architecture has


@pytest.mark.parametrize(
    ("changes", "said", "remedy"),
    [
        ({"num_local_experts": 8}, "num_local_experts is 8; mixtures of experts", "choose a dense model"),
        ({"architectures": ["Qwen3MoeForCausalLM"], "num_experts": 128}, "num_experts is 128; mixtures", "dense"),
        ({"n_routed_experts": 64}, "n_routed_experts is 64; mixtures of experts", "choose a dense model"),
        (
            {"architectures": ["SmolLM3ForCausalLM"], "no_rope_layers": [1, 1, 1, 0]},
            "no_rope_layers is [1, 1, 1, 0]; layers without rotary positions",
            "such as SmolLM2",
        ),
        ({"no_rope_layer_interval": 4}, "no_rope_layer_interval is 4; only null", "such as SmolLM2"),
        ({"no_rope_layers": True}, "no_rope_layers is true; layers without", "SmolLM2"),
        ({"vision_config": {"depth": 2}}, 'vision_config is {"depth": 2}; models with a vision tower', "text-only"),
        ({"text_config": {}}, "text_config is {}; models of more than text", "text-only"),
        ({"quantization_config": {"quant_method": "awq"}}, 'quantization_config is {"quant_method": "awq"}', "GGUF"),
        ({"hidden_act": "gelu_pytorch_tanh"}, 'hidden_act is "gelu_pytorch_tanh"; only "silu"', "another checkpoint"),
        (
            {"architectures": ["GemmaForCausalLM"]},
            'architectures is ["GemmaForCausalLM"]; supported is one of LlamaForCausalLM, ',
            "another",
        ),
        (
            {"architectures": ["LlamaForCausalLM", "X"]},
            'architectures is ["LlamaForCausalLM", "X"]; supported',
            "another",
        ),
        ({"model_type": "qwen2"}, 'model_type is "qwen2"; with LlamaForCausalLM only "llama"', "correct it"),
        ({"mlp_bias": True}, "mlp_bias is true; only false is supported", "choose another checkpoint"),
    ],
)
def test_other_models_are_refused_by_field_value_and_remedy(changes: dict[str, object], said: str, remedy: str) -> None:
    message = refusal(LLAMA, **changes)
    assert message.startswith(f"config.json: {said}")
    assert remedy in message


@pytest.mark.parametrize("value", [None, 0, False])
def test_a_feature_that_is_switched_off_is_not_refused(value: object) -> None:
    assert read(LLAMA, num_experts=value, no_rope_layers=[1, 1], vision_config=None) == read(LLAMA)


@pytest.mark.parametrize(
    ("model", "changes", "said"),
    [
        (LLAMA, {"head_dim": 15}, "head_dim is 15; rotary positions need an even one"),
        (LLAMA, {"head_dim": 2**20}, f"head_dim is {2**20}; it must be an integer in"),
        (LLAMA, {"num_attention_heads": 64, "num_key_value_heads": 64}, "num_attention_heads is 64; hidden_size / "),
        (LLAMA, {"num_key_value_heads": 3}, "num_key_value_heads is 3; 3 must divide"),
        (LLAMA, {"attention_bias": None}, "attention_bias is null; it must be true or false"),
        (MISTRAL, {"attention_bias": True}, "attention_bias is true; only false is supported"),
        (QWEN3, {"vocab_size": True}, "vocab_size is true; it must be an integer"),
        (QWEN3, {"hidden_size": 2**40}, f"hidden_size is {2**40}; it must be an integer"),
    ],
)
def test_sizes_that_fit_nothing_are_refused(model: TinyLlama, changes: dict[str, object], said: str) -> None:
    assert said in refusal(model, **changes)


def test_a_long_or_deep_value_is_shortened() -> None:
    assert len(refusal(LLAMA, vision_config={"x": list(range(10_000))})) < 500
    deep: object = None
    for _ in range(100_000):
        deep = [deep]
    assert "a deeply nested value" in refusal(LLAMA, vision_config=deep)


def test_the_message_of_a_missing_field_says_that_it_is_missing() -> None:
    with pytest.raises(CheckpointRefused) as refused:
        without(LLAMA, "hidden_size")
    assert str(refused.value) == "config.json: hidden_size is missing; it must be an integer in [1, 65536]."
    assert json.dumps(None) in refusal(LLAMA, hidden_size=None)
