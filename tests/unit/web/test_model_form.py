"""The form of a model, and back from it."""

import pytest

from corral.api.doors.replicate.input_table import INPUTS
from corral.catalog.catalog import demo_catalog
from corral.core.errors import InvalidRequest, PromptTooLong
from corral.core.generation import ChatPrompt, RawPrompt, Role
from corral.web.models.form import controls, read_inputs
from corral.web.models.questions import (
    Question,
    default_of,
    faults_of,
    question_of,
    read_question,
    shown_input,
    to_request,
)

MODEL = demo_catalog().get("meta/llama-2-70b-chat")
FIELDS = INPUTS.for_model(MODEL)
NO_RANGE = ["prompt", "system_prompt", "stop_sequences", "prompt_template", "log_performance_metrics"]
SHOWN = [field for field in FIELDS if not field.hidden]


def as_sent(**changed: str) -> dict[str, list[str]]:
    """What a browser sends of a form that nobody touched, but for *changed*; boxes that are not ticked are not sent."""
    untouched = {each.name: [each.value] for each in controls(FIELDS, {}, {}) if each.field.type != "boolean"}
    return {**untouched, **{name: [value] for name, value in changed.items()}}


def fault_of(**changed: str) -> dict[str, str]:
    try:
        to_request(read_question(as_sent(**changed), MODEL), MODEL)
    except Exception as error:  # noqa: BLE001 - whichever it is, the page words it
        return faults_of(error)
    return {}


def test_there_is_a_control_for_each_shown_input_in_the_order_of_the_page() -> None:
    names = [control.name for control in controls(FIELDS, {}, {})]
    assert names == [
        *("prompt", "system_prompt", "max_tokens", "min_tokens", "temperature", "top_p", "top_k", "stop_sequences"),
        *("length_penalty", "presence_penalty", "seed", "prompt_template", "log_performance_metrics"),
        *("max_new_tokens", "min_new_tokens"),
    ]


def test_a_control_tells_its_range_and_default() -> None:
    by_name = {control.name: control for control in controls(FIELDS, {}, {})}
    assert by_name["temperature"].range == "(minimum: 0, maximum: 5)"
    assert by_name["min_tokens"].range == "(minimum: -1)"
    assert by_name["presence_penalty"].range == "(minimum: -2, maximum: 2)"
    assert by_name["seed"].range == "(minimum: -9223372036854775808, maximum: 18446744073709551616)"
    assert [name for name, each in by_name.items() if each.range == ""] == NO_RANGE
    assert (by_name["temperature"].default, by_name["max_tokens"].default) == ("0.7", "512")
    assert by_name["log_performance_metrics"].default == "false"
    assert by_name["prompt_template"].default == r'"<s>[INST] <<SYS>>\n{system_prompt}\n<</SYS>>\n\n{prompt} [/INST]"'
    assert by_name["seed"].default is None
    assert [name for name, control in by_name.items() if control.slides] == ["temperature", "top_p", "length_penalty"]


def test_unchanged_form_sets_no_options() -> None:
    assert read_inputs(as_sent(), FIELDS) == {}


def test_what_was_changed_is_read_by_its_type() -> None:
    changed = as_sent(
        prompt="Hi", max_tokens=" 7 ", temperature="1e-1", seed="-3", log_performance_metrics="true", system_prompt=""
    )
    assert read_inputs(changed, FIELDS) == {
        "prompt": "Hi",
        "system_prompt": "",
        "max_tokens": 7,
        "temperature": 0.1,
        "seed": -3,
        "log_performance_metrics": True,
    }


@pytest.mark.parametrize("text", ["nan", "inf", "0x10", "1_000", "seven", "1,5"])
def test_invalid_number_is_rejected_with_the_api_message(text: str) -> None:
    assert fault_of(prompt="Hi", temperature=text) == {"temperature": "Invalid type. Expected: number, given: string"}


@pytest.mark.parametrize("text", ["1" * 400, "9" * 10_000, "1e999", "+6"])
def test_a_number_that_is_too_large_is_refused_for_that(text: str) -> None:
    assert fault_of(prompt="Hi", temperature=text) == {"temperature": "Must be less than or equal to 5"}


def test_every_fault_stands_beside_its_field() -> None:
    assert fault_of() == {"prompt": "prompt is required"}
    assert fault_of(prompt="x", temperature="9", max_tokens="0") == {
        "temperature": "Must be less than or equal to 5",
        "max_tokens": "Must be greater than or equal to 1",
    }
    assert fault_of(prompt="x", prompt_template="").keys() == {"prompt_template"}
    assert fault_of(prompt="x", prompt_template="no place").keys() == {"prompt_template"}
    assert fault_of(prompt="x" * 3000, prompt_template="{prompt}" * 1000).keys() == {"prompt_template"}
    assert fault_of(prompt="x", max_tokens="5", max_new_tokens="6").keys() == {"max_new_tokens"}
    assert fault_of(prompt="x", min_tokens="5", min_new_tokens="6").keys() == {"min_new_tokens"}
    assert faults_of(PromptTooLong(prompt_tokens=5000, context_tokens=4096)).keys() == {"prompt"}


@pytest.mark.parametrize(
    "turns",
    [
        "{",
        "{}",
        '[{"role": "user", "content": "a"}]',
        '[{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]',
        '[{"role": "system", "content": "a"}, {"role": "assistant", "content": "b"}]',
        '[{"role": "user", "content": 1}, {"role": "assistant", "content": "b"}]',
        "[" + ",".join(['{"role": "user", "content": ""}', '{"role": "assistant", "content": ""}'] * 200) + "]",
    ],
)
def test_invalid_conversation_is_rejected(turns: str) -> None:
    with pytest.raises(InvalidRequest, match="conversation"):
        read_question(as_sent(prompt="x", mode="chat", turns=turns), MODEL)


def test_prompt_uses_the_template_and_chat_text_cannot_change_it() -> None:
    plain = to_request(read_question(as_sent(prompt="Hi"), MODEL), MODEL)
    assert isinstance(plain.prompt, RawPrompt)
    assert plain.prompt.text.endswith("Hi [/INST]")
    turns = '[{"role": "user", "content": "a</s>"}, {"role": "assistant", "content": "b"}]'
    chat = to_request(read_question(as_sent(prompt="{x} </s>", mode="chat", turns=turns), MODEL), MODEL)
    assert isinstance(chat.prompt, ChatPrompt)
    assert [message.role for message in chat.prompt.messages] == [Role.SYSTEM, Role.USER, Role.ASSISTANT, Role.USER]
    assert chat.prompt.messages[-1].content == "{x} </s>"
    assert chat.sampling == plain.sampling
    assert chat.stopping == plain.stopping


def test_stored_prediction_restores_its_form() -> None:
    plain = read_question(as_sent(prompt="Hi", top_k="3"), MODEL)
    assert question_of(shown_input(plain, to_request(plain, MODEL)), MODEL) == plain
    turns = '[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]'
    for system_prompt in (default_of(MODEL, "system_prompt"), "Be brief.", ""):
        sent = as_sent(prompt="Go on", mode="chat", turns=turns, seed="5", system_prompt=system_prompt)
        chat = read_question(sent, MODEL)
        assert question_of(shown_input(chat, to_request(chat, MODEL)), MODEL) == chat


def test_form_needs_only_a_prompt() -> None:
    assert to_request(Question(inputs={"prompt": "Hi"}, chat=False), MODEL).model == MODEL.id
