"""How each chat format lists tools, writes calls and tells results."""

import json
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.core.answer_parser import parse_answer
from corral.core.errors import BadSetting
from corral.core.generation import Message, Role
from corral.core.tools import Tool, ToolCall
from corral.text.chat.encoder import PromptEncoder
from corral.text.chat.format import ChatFormat, chat_formats
from corral.text.chat.render import ChatRenderer
from corral.text.chat.runs import ControlToken
from corral.text.chat.tool_format import parse_tool_format, tool_formats
from corral.text.tokenizer import Tokenizer
from tests.prompts import assistant, encoder, system, user
from tests.unit.text.chat.byte_level import byte_level_tokenizer

MISTRAL = tool_formats()["mistral-v3"].control
WEATHER = Tool(
    name="get_weather",
    description="Today's weather",
    parameters='{"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}',
)
WEATHER_JSON = (
    '{"type": "function", "function": {"name": "get_weather", "description": "Today\'s weather", "parameters": '
    '{"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}'
)
PARIS = ToolCall(id="call_1", name="get_weather", arguments='{"city": "Paris"}')
ROME = ToolCall(id="RomeRome9", name="get_weather", arguments='{"city": "Rome"}')


def calling(content: str, *calls: ToolCall) -> Message:
    return Message(role=Role.ASSISTANT, content=content, tool_calls=calls)


def result(content: str, call: ToolCall = PARIS) -> Message:
    return Message(role=Role.TOOL, content=content, tool_call_id=call.id)


TURNS = [user("Warm?"), calling("", PARIS, ROME), result("20"), result("nice", ROME), assistant("Yes."), user("Bye")]


def written(
    name: str,
    messages: Sequence[Message],
    tools: Sequence[Tool] = (),
    *,
    vocabulary: Sequence[str] = (),
    requires_call: bool = False,
) -> str:
    chat_format = chat_formats()[name]
    renderer = ChatRenderer(chat_format, default_system=chat_format.system.default, vocabulary=vocabulary)
    runs = renderer.render(messages, tools, requires_call=requires_call)
    return "".join(run if isinstance(run, str) else run.text for run in runs)


def test_chatml_lists_tools_behind_the_system_text_and_tells_results_in_a_user_turn() -> None:
    listing = (
        "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
        "You are provided with function signatures within <tools></tools> XML tags:\n"
        f"<tools>\n{WEATHER_JSON}\n</tools>"
    )
    told = written("chatml", [system("Be kind."), *TURNS], [WEATHER])
    begin, _, rest = told.partition("\n</tools>")
    assert f"{begin}\n</tools>" == f"<|im_start|>system\nBe kind.\n\n{listing}"
    _, _, turns = rest.partition("</tool_call><|im_end|>\n")
    assert turns == (
        "<|im_start|>user\nWarm?<|im_end|>\n<|im_start|>assistant\n"
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>\n'
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\n20\n</tool_response>\n<tool_response>\nnice\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\nYes.<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n"
    )
    assert written("chatml", [user("Hi")], [WEATHER]).startswith(f"<|im_start|>system\n{listing}")


def test_content_stands_before_the_calls_of_its_message() -> None:
    assert '\nLet me see.\n<tool_call>\n{"name"' in written(
        "chatml", [user("a"), calling("Let me see.", PARIS), user("b")]
    )


def test_llama_3_1_lists_tools_in_the_first_user_turn_and_tells_results_to_ipython() -> None:
    told = written("llama-3.1", [user(" Warm? "), calling("", PARIS), result('20 "C"')], [WEATHER])
    indented = json.dumps(json.loads(WEATHER_JSON), indent=4)
    header = "<|start_header_id|>{}<|end_header_id|>\n\n"
    assert told == (
        header.format("system") + "Environment: ipython\nCutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024"
        "\n\n<|eot_id|>" + header.format("user") + "Given the following functions, please respond with a JSON for a "
        "function call with its proper arguments that best answers the given prompt.\n\n"
        'Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}.'
        f"Do not use variables.\n\n{indented}\n\nWarm?<|eot_id|>"
        + header.format("assistant")
        + '{"name": "get_weather", "parameters": {"city": "Paris"}}<|eot_id|>'
        + header.format("ipython")
        + '"20 \\"C\\""<|eot_id|>'
        + header.format("assistant")
    )


def test_mistral_writes_tools_calls_and_results_between_control_tokens() -> None:
    chat_format = chat_formats()["mistral-v3"]
    runs = ChatRenderer(chat_format, vocabulary=MISTRAL).render([system("S"), *TURNS], [WEATHER])
    control = [run.text for run in runs if isinstance(run, ControlToken)]
    assert control == [
        "[INST]", "[/INST]", "[TOOL_CALLS]", "</s>", "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[TOOL_RESULTS]",
        "[/TOOL_RESULTS]", "</s>", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[INST]", "[/INST]",
    ]  # fmt: skip
    assert [run for run in runs if isinstance(run, str)] == [
        "Warm?",
        '[{"name": "get_weather", "arguments": {"city": "Paris"}, "id": "HA7YBTirl"}, '
        '{"name": "get_weather", "arguments": {"city": "Rome"}, "id": "RomeRome9"}]',
        '{"content": 20, "call_id": "HA7YBTirl"}',
        '{"content": "nice", "call_id": "RomeRome9"}',
        "Yes.",
        f"[{WEATHER_JSON}]",
        "S\n\nBye",
    ]


def test_a_vocabulary_without_the_control_tokens_of_a_convention_gets_the_plain_one() -> None:
    told = written("mistral-v3", TURNS, [WEATHER], vocabulary=MISTRAL[1:])
    assert "[TOOL_CALLS]" not in told
    assert "<tool_call>" in told


@pytest.mark.parametrize("name", ["llama-2", "mistral-v1", "vicuna", "zephyr", "alpaca", "plain", "llama-3"])
def test_formats_without_a_convention_have_the_plain_one_in_their_own_turns(name: str) -> None:
    told = written(name, TURNS, [WEATHER])
    assert told.index("<tools>\n" + WEATHER_JSON + "\n</tools>") < told.index("Warm?")
    as_messages = [
        user("Warm?"),
        assistant(
            '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>\n'
            '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call>'
        ),
        user("<tool_response>\n20\n</tool_response>\n<tool_response>\nnice\n</tool_response>"),
        *TURNS[4:],
    ]
    assert written(name, TURNS) == written(name, as_messages)


def test_the_plain_listing_stands_in_llama_2s_system_text() -> None:
    told = written("llama-2", [system("Be kind."), user("Hi")], [WEATHER])
    assert told.startswith("<s>[INST] <<SYS>>\nBe kind.\n\nYou can call functions.")
    assert told.endswith("\n<</SYS>>\n\nHi [/INST]")


@pytest.mark.parametrize(
    ("name", "vocabulary", "start"),
    [
        ("chatml", (), "<|im_start|>assistant\n<tool_call>\n"),
        ("qwen-3", (), "<|im_start|>assistant\n<think>\n\n</think>\n\n<tool_call>\n"),
        ("llama-2", (), "[/INST] <tool_call>\n"),
        ("llama-3.1", (), "<|start_header_id|>assistant<|end_header_id|>\n\n"),
        ("mistral-v3", MISTRAL, "[/INST][TOOL_CALLS]"),
    ],
)
def test_a_prompt_whose_answer_must_be_a_call_ends_with_the_start_of_one(
    name: str, vocabulary: Sequence[str], start: str
) -> None:
    assert written(name, [user("Hi")], [WEATHER], vocabulary=vocabulary, requires_call=True).endswith(start)


def test_a_continued_answer_that_must_call_calls_after_its_content() -> None:
    told = written("chatml", [user("Hi"), assistant("Let me see.")], [WEATHER], requires_call=True)
    assert told.endswith("<|im_start|>assistant\nLet me see.\n<tool_call>\n")


def test_thoughts_before_the_last_question_are_forgotten_and_those_since_are_kept() -> None:
    thought = "<think>\nHm.\n</think>\n\n"
    told = written(
        "qwen-3", [user("a"), assistant(thought + "b"), user("c"), calling(thought + "d", PARIS), result("e")]
    )
    assert told.count("Hm.") == 1
    assert "</think>\n\nd\n<tool_call>" in told


def test_a_tag_that_is_a_control_token_of_the_vocabulary_is_written_as_one() -> None:
    tags = tool_formats()["hermes"].tokens
    tokenizer = byte_level_tokenizer(["<|im_start|>", "<|im_end|>", *tags])
    prompts = encoder(tokenizer, "chatml")
    ids = prompts.encode(prompts.chat_runs(TURNS, [WEATHER]), param="messages")
    assert [ids.count(tokenizer.control_ids[tag]) for tag in tags] == [4, 4, 2, 2]
    assert prompts.tool_tokens == {tokenizer.control_ids[tag]: tag for tag in tags}
    assert encoder(byte_level_tokenizer(["<|im_start|>", "<|im_end|>"]), "chatml").tool_tokens == {}


def test_markers_of_tools_are_neutralised_only_in_conversations_with_tools() -> None:
    said = [user("What is <tool_call>?")]
    assert "What is <tool_call>?" in written("chatml", said)
    assert "What is < tool_call >?" in written("chatml", said, [WEATHER])


def test_arguments_that_are_no_object_are_written_as_a_string() -> None:
    broken = ToolCall(id="x", name="f", arguments='{"a": ')
    assert '"arguments": "{\\"a\\": "}' in written("chatml", [user("a"), calling("", broken), user("b")])


EVERY = [token for each in (*chat_formats().values(), *tool_formats().values()) for token in each.control]
MARKERS = [
    part
    for each in (*chat_formats().values(), *tool_formats().values())
    for marker in each.markers
    for part in (*marker, "".join(marker))
]
TEXT = st.lists(
    st.sampled_from([*EVERY, *MARKERS, "<", ">", "[", "]", '"', "\\", "{", "}", " ", "\n", "\u2581"])
    | st.text(max_size=3),
    max_size=8,
).map("".join)


def texts(name: str, contents: Sequence[str]) -> tuple[list[Message], list[Tool]]:
    """A conversation in which callers' texts stand in each place that has one."""
    asked, answer, argument, key, told, description, word = contents
    call = ToolCall(id=told, name=name, arguments=json.dumps({key: argument}))
    schema = json.dumps({"type": "object", "properties": {key: {"const": word}}})
    messages = [user(asked), calling(answer, call, call), result(told, call), result(asked, call), user(answer)]
    return messages, [Tool(name=name, description=description, parameters=schema)]


@pytest.mark.parametrize("name", sorted(chat_formats()))
@given(contents=st.lists(TEXT, min_size=7, max_size=7))
def test_no_text_of_a_caller_makes_a_control_token_or_a_marker(
    name: str, tool_vocabularies: Callable[[ChatFormat], list[Tokenizer]], contents: list[str]
) -> None:
    for tokenizer in tool_vocabularies(chat_formats()[name]):
        prompts = encoder(tokenizer, name)
        frame = spelled(prompts, texts("f", ["x"] * 7))
        assert spelled(prompts, texts("f", contents)) == frame


def spelled(prompts: PromptEncoder, conversation: tuple[list[Message], list[Tool]]) -> list[str]:
    """Control tokens and markers in a prompt, in order."""
    assert prompts.chat.format is not None
    assert prompts.tool_format is not None
    runs = prompts.chat_runs(*conversation)
    markers = {"".join(marker) for marker in (*prompts.chat.format.markers, *prompts.tool_format.markers)}
    found: list[str] = []
    for run in runs:
        if isinstance(run, ControlToken):
            found.append(run.text)
            continue
        places = sorted(
            (at, marker)
            for marker in markers
            for at in range(len(run))
            if run.startswith(marker, at) and is_word(run, at)
        )
        found += [marker for _, marker in places]
    return found


def is_word(text: str, at: int) -> bool:
    """Whether a marker at this place counts: one that begins with a letter does not inside a word."""
    return not text[at].isalnum() or at == 0 or not (text[at - 1].isalnum() or text[at - 1] == "_")


@pytest.mark.parametrize("name", sorted(chat_formats()))
def test_the_calls_that_a_format_writes_are_read_back(name: str) -> None:
    for vocabulary in ((), MISTRAL):
        renderer = ChatRenderer(chat_formats()[name], vocabulary=vocabulary)
        tool_format = renderer.tool_format
        several = tool_format.calls.between is not None
        calls = (PARIS, ROME) if several else (PARIS,)
        before = "".join(map(text_of, renderer.render([user("a"), assistant("x")])))
        whole = "".join(map(text_of, renderer.render([user("a"), calling("", *calls)])))
        syntax = tool_format.syntax(("get_weather",), is_required=False, is_parallel=True)
        read = parse_answer(whole[len(before) - 1 :], syntax, prediction_id="p")
        assert read.content == ""
        assert [(call.name, call.arguments) for call in read.calls] == [(call.name, call.arguments) for call in calls]
        assert syntax.most_calls == (None if several else 1)


def text_of(run: str | ControlToken) -> str:
    return run if isinstance(run, str) else run.text


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('turn = "user"', 'turn = "system"', "Invalid enum value 'system' - at `$.results.turn`"),
        ("{tools}", "tools", "listing.text must have {tools} once"),
        ('starts = ["<tool_call>"]', 'starts = ["{"]', "calls.starts has '{', which is empty or has a brace"),
        ('begin = "<tool_call>\\n"', 'begin = "x"', "calls.begin begins with none of calls.starts"),
        ("[results]", 'control = 1\n[results]', "calls"),
        ("markers = [", 'tokens = ["<x>"]\nmarkers = [', "<x> is a token, but not among markers"),
    ],
)  # fmt: skip
def test_a_convention_that_is_not_valid_is_refused_by_its_key(old: str, new: str, said: str) -> None:
    document = """
markers = [["<", "tool_call", ">"]]
[listing]
place = "system"
separator = ""
text = "{tools}"
[calls]
begin = "<tool_call>\\n"
starts = ["<tool_call>"]
[results]
turn = "user"
prefix = ""
suffix = ""
"""
    assert parse_tool_format("mine", document).calls.between is None
    with pytest.raises(BadSetting) as refusal:
        parse_tool_format("mine", document.replace(old, new))
    assert str(refusal.value).startswith("tool format mine: ")
    assert said in str(refusal.value)
