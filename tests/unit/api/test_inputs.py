"""The inputs are those of the pages that programs were written against, to the letter."""

import math
from dataclasses import replace
from typing import Any

import pytest

from corral.api.doors.deepinfra.input_table import INPUTS as DEEPINFRA_INPUTS
from corral.api.doors.replicate.input_table import INPUTS as REPLICATE_INPUTS
from corral.api.inputs import InputField, bounds, fields_from_tables
from corral.catalog.catalog import demo_catalog
from corral.core.errors import BadSetting

LONG_SYSTEM_PROMPT = (
    "You are a helpful, respectful and honest assistant. Always answer as helpfully as possible, while being "
    "safe. Your answers should not include any harmful, unethical, racist, sexist, toxic, dangerous, or illegal "
    "content. Please ensure that your responses are socially unbiased and positive in nature.\n\nIf a question "
    "does not make any sense, or is not factually coherent, explain why instead of answering something not "
    "correct. If you don't know the answer to a question, please don't share false information."
)
MODEL = demo_catalog().get("corral/demo")
NONE: Any = object()
"""No default."""
TOP_P = (
    "When decoding text, samples from the top p percentage of most likely tokens; lower to ignore less likely tokens."
)
TOP_K = "When decoding text, samples from the top k most likely tokens; lower to ignore less likely tokens."
STOPS = (
    "A comma-separated list of sequences to stop generation at. For example, '<end>,<stop>' will stop generation "
    "at the first instance of 'end' or '<stop>'."
)
LENGTH = (
    "A parameter that controls how long the outputs are. If < 1, the model will tend to generate shorter "
    "outputs, and > 1 will tend to generate longer outputs."
)
PRESENCE = (
    "A parameter that penalizes repeated tokens regardless of the number of appearances. As the value increases, "
    "the model will be less likely to repeat tokens in the output."
)
TEMPERATURE = (
    "Adjusts randomness of outputs, greater than 1 is random and 0 is deterministic, 0.75 is a good starting value."
)
TEMPLATE = "Template for formatting the prompt. Can be an arbitrary string, but must contain the substring `{prompt}`."
RENAMED = (
    "This parameter has been renamed to {0}_tokens. {0}_new_tokens only exists for backwards compatibility "
    "purposes. We recommend you use {0}_tokens instead. Both may not be specified."
)
SYSTEM = "System prompt to send to the model. This is prepended to the prompt and helps guide system behavior."
REPLICATE: list[tuple[str, str, dict[str, float], Any, str]] = [
    ("Prompt", "string", {}, NONE, "Prompt to send to the model."),
    ("System Prompt", "string", {}, LONG_SYSTEM_PROMPT, SYSTEM),
    ("Max Tokens", "integer", {"minimum": 1}, 512,
     "Maximum number of tokens to generate. A word is generally 2-3 tokens."),
    ("Min Tokens", "integer", {"minimum": -1}, NONE,
     "Minimum number of tokens to generate. To disable, set to -1. A word is generally 2-3 tokens."),
    ("Temperature", "number", {"minimum": 0, "maximum": 5}, 0.7, TEMPERATURE),
    ("Top P", "number", {"minimum": 0, "maximum": 1}, 0.95, TOP_P),
    ("Top K", "integer", {"minimum": -1}, 0, TOP_K),
    ("Stop Sequences", "string", {}, NONE, STOPS),
    ("Length Penalty", "number", {"minimum": 0, "maximum": 5}, 1, LENGTH),
    ("Presence Penalty", "number", {}, 0, PRESENCE),
    ("Seed", "integer", {}, NONE, "Random seed. Leave blank to randomize the seed."),
    ("Prompt Template", "string", {}, "<s>[INST] <<SYS>>\n{system_prompt}\n<</SYS>>\n\n{prompt} [/INST]", TEMPLATE),
    ("Log Performance Metrics", "boolean", {}, False, ""),
    ("Max New Tokens", "integer", {"minimum": 1}, NONE, RENAMED.format("max")),
    ("Min New Tokens", "integer", {"minimum": -1}, NONE, RENAMED.format("min")),
]  # fmt: skip
DEEPINFRA = """\
  input     : string. text to generate from
  max_new_tokens: (Default: 2048) integer. maximum length of the newly generated generated text
  temperature: (Default: 0.7) number. temperature to use for sampling. 0 means the output is deterministic. \
Values greater than 1 encourage more diversity
  top_p     : (Default: 0.9) number. Sample from the set of tokens with highest probability such that sum of \
probabilies is higher than p. Lower values focus on the most probable tokens.Higher values sample more low-probability \
tokens
  top_k     : (Default: 0) integer. Sample from the best k (number of) tokens. 0 means off
  repetition_penalty: (Default: 1.2) number. repetition penalty. Value of 1 means no penalty, values greater than 1 \
discourage repetition, smaller than 1 encourage repetition.
  stop      : (Default: []) array. Up to 4 strings that will terminate generation immediately
  num_responses: (Default: 1) integer. Number of output sequences to return. Incompatible with streaming
  stream    : (Default: False) boolean. Whether to stream tokens, by default it will be false, currently only \
supported for Llama 2 text generation models, token by token updates will be sent over SSE
  webhook   : (Default: None) string. The webhook to call when inference is done, by default you will get the output \
in the response of your inference request"""
LATER = ["min_p", "presence_penalty", "frequency_penalty", "response_format", "user", "seed"]
RANGES = {
    "max_new_tokens": {"minimum": 1, "maximum": 10**6},
    "temperature": {"minimum": 0, "maximum": 100},
    "top_p": {"exclusiveMinimum": 0, "maximum": 1},
    "top_k": {"minimum": 0, "maximum": 100_000},
    "repetition_penalty": {"minimum": 0.01, "maximum": 5},
    "num_responses": {"minimum": 1, "maximum": 4},
    "min_p": {"minimum": 0, "maximum": 1},
    "presence_penalty": {"minimum": -2, "maximum": 2},
    "frequency_penalty": {"minimum": -2, "maximum": 2},
    "seed": {"minimum": -(2**63), "maximum": 2**64},
}


def test_replicates_fifteen_inputs_are_those_of_its_page_in_its_order() -> None:
    shown = [field for field in REPLICATE_INPUTS.fields if not field.hidden]
    assert [
        (field.title, field.type, bounds(field), field.default if field.has_default else NONE, field.description)
        for field in shown
    ] == REPLICATE
    assert [field.order for field in shown] == list(range(15))
    assert [field.name for field in shown if field.required] == ["prompt"]
    assert [field.name for field in shown if field.min_length] == ["prompt_template"]


def test_inputs_of_older_versions_are_accepted_but_hidden() -> None:
    hidden = {field.name: bounds(field) for field in REPLICATE_INPUTS.fields if field.hidden}
    assert hidden == {
        "debug": {},
        "replicate_weights": {},
        "repetition_penalty": {"minimum": 0},
        "frequency_penalty": {},
    }


def test_deepinfras_parameters_come_first_as_its_page_prints_them() -> None:
    printed: list[str] = []
    for field in DEEPINFRA_INPUTS.fields[:10]:
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        shown = f"(Default: {default}) " if field.has_default else ""
        printed.append(f"  {field.name:10}: {shown}{field.type}. {field.description}")
    assert "\n".join(printed) == DEEPINFRA


def test_deepinfras_later_parameters_follow_with_their_ranges() -> None:
    fields = DEEPINFRA_INPUTS.fields
    assert [field.name for field in fields[10:]] == LATER
    assert {field.name: bounds(field) for field in fields if bounds(field)} == RANGES
    limits = {field.name: (field.max_items, field.max_item_length) for field in fields if field.max_items}
    assert limits == {"stop": (16, 256)}


def test_a_default_that_is_a_setting_can_be_overridden_or_taken_away() -> None:
    changed = {
        field.name: field
        for field in DEEPINFRA_INPUTS.for_model(MODEL, overrides={"repetition_penalty": 1, "top_k": None})
    }
    assert changed["repetition_penalty"].default == 1
    assert not changed["top_k"].has_default
    assert DEEPINFRA_INPUTS.fields[5].default == 1.2


@pytest.mark.parametrize(
    "overrides",
    [{"top_q": 1}, {"top_p": 1.1}, {"top_p": "1"}, {"top_k": True}, {"top_k": 0.5}, {"temperature": math.nan}],
)
def test_an_override_that_fits_no_input_is_refused(overrides: dict[str, Any]) -> None:
    with pytest.raises(BadSetting, match=next(iter(overrides))):
        DEEPINFRA_INPUTS.for_model(MODEL, overrides=overrides)


def test_a_range_holds_its_edges_and_never_nan() -> None:
    fields = {field.name: field for field in REPLICATE_INPUTS.fields}
    top_p, unstated, count = fields["top_p"], fields["presence_penalty"], fields["max_tokens"]
    assert [top_p.holds(number) for number in (-1e-9, 0, 0.5, 1, 1 + 1e-9, math.nan)] == [
        False, True, True, True, False, False,
    ]  # fmt: skip
    assert [unstated.holds(number) for number in (-2, 2, 2.1, -1e9, math.nan)] == [True, True, False, False, False]
    assert [count.holds(number) for number in (1, 2**63 - 1, 2**63, 1e30, math.inf)] == [
        True,
        True,
        False,
        False,
        False,
    ]


@pytest.mark.parametrize(
    "tables",
    [
        [{"name": "a", "type": "string", "minimun": 1}],
        [{"type": "string"}],
        [{"name": "a", "type": "text"}],
        [{"name": "a", "type": "integer", "default": "1"}],
        [{"name": "a", "type": "integer", "default": 0, "minimum": 1}],
        [{"name": "a", "type": "number", "default": 1, "exclusive_maximum": 1}],
        [{"name": "a", "type": "number", "default": 0, "exclusive_minimum": 0}],
        [{"name": "a", "type": "string"}, {"name": "a", "type": "string"}],
        [{"name": "a", "type": "string", "hidden": True}, {"name": "b", "type": "string"}],
    ],
)
def test_invalid_input_data_is_rejected(tables: list[dict[str, Any]]) -> None:
    with pytest.raises(BadSetting, match="somewhere"):
        fields_from_tables(tables, where="somewhere")


def test_a_models_own_defaults_come_before_the_apis_and_the_callers_before_both() -> None:
    model = replace(MODEL, input_defaults={"temperature": 0.5, "max_tokens": 100, "system_prompt": "", "min_p": 0.1})
    replicate = defaults(REPLICATE_INPUTS.for_model(model, overrides={"temperature": 0.6}))
    assert (replicate["temperature"], replicate["max_tokens"], replicate["system_prompt"]) == (0.6, 100, "")
    deepinfra = defaults(DEEPINFRA_INPUTS.for_model(model))
    assert (deepinfra["temperature"], deepinfra["max_new_tokens"], deepinfra["min_p"]) == (0.5, 100, 0.1)


def test_only_the_model_whose_page_showed_no_default_of_top_k_has_none() -> None:
    for model in demo_catalog().models():
        has_none = "top_k" not in defaults(REPLICATE_INPUTS.for_model(model))
        assert has_none == ("llama-2-13b-chat" in model.id.lower())


def test_the_defaults_of_every_card_are_values_of_the_inputs() -> None:
    for model in demo_catalog().models():
        for table in (REPLICATE_INPUTS, DEEPINFRA_INPUTS):
            assert table.for_model(model)


def defaults(fields: tuple[InputField, ...]) -> dict[str, Any]:
    return {field.name: field.default for field in fields if field.has_default}
