"""Prompts in Llama 2's format are read back as the messages that they were made of; others are not read at all."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.core.generation import Message, Role
from corral.core.llama2_prompts import escape_content, parse_llama2_prompt, split_turns
from corral.text.chat.format import chat_formats
from corral.text.chat.render import ChatRenderer
from tests.prompts import assistant, system, user

REPLICATE = "<s>[INST] <<SYS>>\n{system_prompt}\n<</SYS>>\n\n{prompt} [/INST]"
PART = st.sampled_from(["[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "<s>", "</s>", "[", "<<", "a", " ", "\n", "\u2581"])
ANYTHING = st.lists(PART | st.text(max_size=3), max_size=12).map("".join)
CONTENT = ANYTHING.map(lambda text: escape_content(text).strip())
"""Content that no marker is in and that no space is around: what such a prompt can hold unchanged."""


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    """A system text or none, and turns that begin with the user; an answer at the end is not empty."""
    messages = [system(draw(CONTENT))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(min_value=0, max_value=3))):
        messages += [user(draw(CONTENT)), assistant(draw(CONTENT))]
    messages.append(user(draw(CONTENT)))
    if draw(st.booleans()):
        messages.append(assistant(draw(CONTENT.filter(bool))))
    return messages


def rendered(messages: list[Message]) -> str:
    runs = ChatRenderer(chat_formats()["llama-2"]).render(messages)
    return "".join(run if isinstance(run, str) else run.text for run in runs)


@given(conversations())
def test_a_rendered_conversation_is_read_back(messages: list[Message]) -> None:
    prompt = rendered(messages)
    assert parse_llama2_prompt(prompt) == tuple(messages)
    assert parse_llama2_prompt(prompt.removeprefix("<s>")) == tuple(messages)


@given(ANYTHING)
def test_what_is_read_from_any_text_is_rendered_and_read_the_same(text: str) -> None:
    messages = parse_llama2_prompt(text)
    if messages is not None:
        assert parse_llama2_prompt(rendered(list(messages))) == messages
        assert [message.role for message in messages if message.role is not Role.SYSTEM] == [
            (Role.USER, Role.ASSISTANT)[index % 2]
            for index in range(sum(message.role is not Role.SYSTEM for message in messages))
        ]


@pytest.mark.parametrize(
    ("prompt", "messages"),
    [
        ("[INST] Hi [/INST]", [user("Hi")]),
        ("[INST]Hi[/INST]", [user("Hi")]),
        (" <s> [INST] Hi [/INST] ", [user("Hi")]),
        ("[INST] [/INST]", [user("")]),
        ("[INST] Hi [/INST] Once upon", [user("Hi"), assistant("Once upon")]),
        ("[INST] a [/INST] b [INST] c [/INST]", [user("a"), assistant("b"), user("c")]),
        ("<s>[INST] a [/INST] b </s><s>[INST] c [/INST]", [user("a"), assistant("b"), user("c")]),
        ("[INST] a [/INST] b</s>\n[INST] c [/INST]", [user("a"), assistant("b"), user("c")]),
        ("[INST] a [/INST] [INST] c [/INST]", [user("a"), assistant(""), user("c")]),
        ("[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nHi [/INST]", [system("Be kind."), user("Hi")]),
        ("[INST]<<SYS>>Be kind.<</SYS>>Hi[/INST]", [system("Be kind."), user("Hi")]),
        (REPLICATE.format(system_prompt="Be kind.", prompt="Hi"), [system("Be kind."), user("Hi")]),
        (REPLICATE.format(system_prompt="", prompt="Hi"), [system(""), user("Hi")]),
        (
            "[INST] Hi! [/INST]\nHello! How are you?\n"
            "[INST] I'm great, thanks for asking. Could you help me with a task? [/INST]",
            [
                *(user("Hi!"), assistant("Hello! How are you?")),
                user("I'm great, thanks for asking. Could you help me with a task?"),
            ],
        ),
    ],
)
def test_a_prompt_is_read_to_messages(prompt: str, messages: list[Message]) -> None:
    assert parse_llama2_prompt(prompt) == tuple(messages)


@pytest.mark.parametrize(
    "prompt",
    [
        *("", "Hi", "Say [INST]", "[INST] Hi", "Hi [/INST]", "[/INST] [INST]", "x [INST] a [/INST]"),
        *(
            "[INST] a [INST] b [/INST]",
            "[INST] a [/INST] b [/INST]",
            "[INST] a </s> b [/INST]",
            "<s><s>[INST] a [/INST]",
        ),
        *("[INST] a [/INST] b </s>", "[INST] a [/INST] b </s> c", "[INST] a [/INST] b </s></s>[INST] c [/INST]"),
        *("[INST] <<SYS>> a [/INST]", "[INST] a <<SYS>>b<</SYS>> [/INST]", "[INST] <<SYS>>a<<SYS>>b<</SYS>> c [/INST]"),
        *("[INST] a [/INST] <<SYS>>b<</SYS>>", "[INST] a [/INST] b [INST] <<SYS>>c<</SYS>> d [/INST]"),
        "<<SYS>>a<</SYS>> [INST] b [/INST]",
    ],
)
def test_a_prompt_of_another_form_is_not_read(prompt: str) -> None:
    assert parse_llama2_prompt(prompt) is None


def test_white_space_around_a_turn_is_removed() -> None:
    assert split_turns("[INST]  a\n[/INST]\n b </s>") == [("a", "b", True)]


@pytest.mark.parametrize(
    "unit", ["[INST]", "[/INST]", "[INST] a [/INST] b ", "<s>", "</s>", "<<SYS>>", "<</SYS>>", "[", "<", " ", "\n"]
)
def test_a_megabyte_takes_linear_time(unit: str) -> None:
    """A quadratic parser would take hours; the bound only ends a hung test."""
    began_s = time.monotonic()
    text = unit * (1_000_000 // len(unit))
    for prompt in (text, f"[INST] <<SYS>>{text}<</SYS>> a [/INST]", f"[INST] {text} [/INST]"):
        parse_llama2_prompt(prompt)
        escape_content(prompt)
    assert time.monotonic() - began_s < 60
