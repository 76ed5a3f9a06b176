"""The parser of answers: content and calls, however the text is cut."""

import json
import time
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from corral.core.answer_parser import AnswerParser, call_id, fold, parse_answer
from corral.core.tools import AnswerPart, CallArguments, CallEnded, CallStarted, CallSyntax, Content, ParsedAnswer

TAGS = CallSyntax(names=("f", "get_weather"), starts=("<tool_call>",), end="</tool_call>")
LIST = CallSyntax(names=("f", "get_weather"), starts=("[TOOL_CALLS]",))
BARE = CallSyntax(names=("f", "get_weather"), starts=("<|python_tag|>",), bare=True)
OPEN = CallSyntax(names=("f", "get_weather"), starts=("<tool_call>",), end="</tool_call>", is_open=True)
SYNTAXES = {"tags": TAGS, "list": LIST, "bare": BARE, "open": OPEN}
CALL = '{"name": "f", "arguments": {"a": 1}}'
PARIS = '{"name": "get_weather", "arguments": {"city": "Paris", "days": [1, {"x": "}"}]}}'


def parsed(text: str, syntax: CallSyntax | None) -> ParsedAnswer:
    return parse_answer(text, syntax, prediction_id="p")


def calls(text: str, syntax: CallSyntax) -> list[tuple[str, str]]:
    answer = parsed(text, syntax)
    assert answer.content == ""
    return [(call.name, call.arguments) for call in answer.calls]


def parts(pieces: Sequence[str], syntax: CallSyntax | None) -> list[AnswerPart]:
    """Parts of an answer that arrives in pieces, with neighbours joined."""
    parser = AnswerParser(syntax, prediction_id="p")
    joined: list[AnswerPart] = []
    for part in [*(part for piece in pieces for part in parser.feed(piece)), *parser.end()]:
        match joined[-1:], part:
            case [Content(before)], Content(text):
                joined[-1] = Content(before + text)
            case [CallArguments(index=index, text=before)], CallArguments(text=text):
                joined[-1] = CallArguments(index=index, text=before + text)
            case _:
                joined.append(part)
    return joined


@pytest.mark.parametrize(
    ("syntax", "text"),
    [
        (TAGS, f"<tool_call>\n{CALL}\n</tool_call>"),
        (TAGS, f"  \n<tool_call>{CALL}"),
        (TAGS, f"<tool_call>[{CALL}]</tool_call>"),
        (TAGS, f"<tool_call>\n{CALL}\n</tool_call>\n\n"),
        (TAGS, '<tool_call>{"name": "f", "arguments": {"a": 1}\n</tool_call>'),
        (TAGS, '<tool_call>{"name": "f", "arguments": {"a": 1}, "id": "x}"}</tool_call>'),
        (TAGS, '<tool_call>{"name": "f", "parameters": {"a": 1}}</tool_call>'),
        (TAGS, '<tool_call>{"arguments": {"a": 1}, "name": "f"}</tool_call>'),
        (TAGS, '<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>'),
        (LIST, f"[TOOL_CALLS] [{CALL}]"),
        (LIST, f"[TOOL_CALLS]{CALL}"),
        (BARE, CALL),
        (BARE, f" {CALL}"),
        (BARE, f"<|python_tag|>{CALL}"),
        (OPEN, CALL),
        (OPEN, f"{CALL}\n</tool_call>"),
    ],
)
def test_a_call_is_read_in_each_spelling(syntax: CallSyntax, text: str) -> None:
    assert calls(text, syntax) == [("f", '{"a": 1}')]


@pytest.mark.parametrize(
    ("syntax", "text"),
    [
        (TAGS, f"<tool_call>\n{CALL}\n</tool_call>\n<tool_call>\n{PARIS}\n</tool_call>"),
        (TAGS, f"<tool_call>{CALL}<tool_call>{PARIS}"),
        (OPEN, f"{CALL}\n</tool_call>\n<tool_call>\n{PARIS}\n</tool_call>"),
        (LIST, f"[TOOL_CALLS] [{CALL}, {PARIS}]"),
        (BARE, f"{CALL}; {PARIS}"),
    ],
)
def test_several_calls_are_read_in_order(syntax: CallSyntax, text: str) -> None:
    assert calls(text, syntax) == [("f", '{"a": 1}'), ("get_weather", '{"city": "Paris", "days": [1, {"x": "}"}]}')]


def test_a_call_without_arguments_has_none() -> None:
    assert calls('<tool_call>{"name": "f"}</tool_call>', TAGS) == [("f", "{}")]


def test_arguments_are_kept_as_they_are_written() -> None:
    written = '{ "a" :1.50,\n"b": "\\u00e9 \\" } </tool_call>" }'
    assert calls(f'<tool_call>{{"name":"f","arguments":{written}}}</tool_call>', TAGS) == [("f", written)]


def test_text_before_and_after_calls_is_content_without_the_space_at_the_calls() -> None:
    answer = parsed(f"Let me see. \n\n<tool_call>{CALL}</tool_call>\n Done.\n", TAGS)
    assert answer.content == "Let me see.\n Done."
    assert len(answer.calls) == 1


@pytest.mark.parametrize(
    "text",
    [
        " Hello! ",
        "\n",
        "a < b, <tool_cal, <tool_call",
        "<tool_call>",
        "<tool_call> [",
        "<tool_call>\n</tool_call> ok",
        "<tool_call>get_weather(Paris)</tool_call>",
        '<tool_call>{"name": "unknown", "arguments": {}}</tool_call>\nWell.',
        '<tool_call>{"name": "f", "arguments": [1]}</tool_call>',
        '<tool_call>{"name": "f", "arguments": NaN}</tool_call>',
        '<tool_call>{"name": "f',
        '<tool_call>{"tool": "f", "with": {"a": 1}}',
        '<tool_call>{"arguments": {"a": 1}',
        f'{CALL} or `"name": "f"`',
        '{"a": ' + "[" * 5000,
        '<tool_call>{"a": ' + "[" * 2000 + "]" * 2000 + "}",
    ],
)
def test_what_is_no_call_is_content_unchanged(text: str) -> None:
    assert parsed(text, TAGS) == ParsedAnswer(content=text)


@pytest.mark.parametrize(
    "text", ["{}", '{"a": 1}', ' {"name": "unknown", "parameters": {}} ', "Say {} " + CALL, '{"na']
)
def test_an_object_that_is_no_call_is_content_where_calls_need_no_start(text: str) -> None:
    assert parsed(text, BARE) == ParsedAnswer(content=text)


def test_without_a_syntax_all_text_is_content() -> None:
    text = f" <tool_call>{CALL}</tool_call> "
    assert parsed(text, None) == ParsedAnswer(content=text)


def test_an_answer_that_is_cut_off_keeps_the_call_with_the_arguments_so_far() -> None:
    assert calls('<tool_call>{"name": "f", "arguments": {"a": "lo', TAGS) == [("f", '{"a": "lo')]
    assert calls(f"<tool_call>{CALL}</tool_c", TAGS) == [("f", '{"a": 1}')]


def test_what_follows_the_most_calls_is_dropped() -> None:
    one = CallSyntax(names=("f",), starts=("<tool_call>",), end="</tool_call>", most_calls=1)
    assert calls(f"<tool_call>{CALL}</tool_call><tool_call>{CALL}</tool_call> And so on.", one) == [("f", '{"a": 1}')]


def test_the_ids_of_calls_depend_on_prediction_choice_and_index_only() -> None:
    text = f"<tool_call>{CALL}</tool_call>" * 2
    ids = [
        call.id
        for prediction_id in ("p", "q")
        for choice in (0, 1)
        for call in parse_answer(text, TAGS, prediction_id=prediction_id, choice=choice).calls
    ]
    assert len(set(ids)) == 8
    assert ids[:2] == [call_id("p", 0, 0), call_id("p", 0, 1)]
    assert all(each.startswith("call_") and len(each) == 29 for each in ids)


def test_parts_come_as_soon_as_they_are_certain() -> None:
    parser = AnswerParser(TAGS, prediction_id="p")
    first = call_id("p", 0, 0)
    assert parser.feed("Hi ") == [Content("Hi")]
    assert parser.feed("there <tool") == [Content(" there")]
    assert parser.feed('_call>\n{"name": "f"') == []
    assert parser.feed(', "arguments": {') == [
        CallStarted(index=0, id=first, name="f"), CallArguments(index=0, text="{"),
    ]  # fmt: skip
    assert parser.feed('"a":') == [CallArguments(index=0, text='"a":')]
    assert parser.feed(" 1}}\n</") == [CallArguments(index=0, text=" 1}"), CallEnded(index=0)]
    assert parser.feed("tool_call> Done") == [Content(" Done")]
    assert parser.end() == []
    assert parser.calls == 1


SPELLINGS = st.sampled_from(
    [
        "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "<|python_tag|>", CALL, PARIS, "{", "}", "[", "]", ",", ";", ":",
        '"', "\\", '"name"', '"f"', '"arguments"', '"arguments": {', "<", "<tool", "_call>", " ", "\n", "x", "{}", "é",
    ]
)  # fmt: skip
TEXT = st.lists(SPELLINGS, max_size=14).map("".join)


@pytest.mark.parametrize("name", sorted(SYNTAXES))
@given(text=TEXT, cuts=st.lists(st.integers(0, 300), max_size=8))
@example(text=f"a <tool_call>{CALL}</tool_call>\n<tool_call>{PARIS}", cuts=[])
def test_the_parts_do_not_depend_on_how_the_text_is_cut(name: str, text: str, cuts: list[int]) -> None:
    borders = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    pieces = [text[begin:end] for begin, end in pairwise(borders)]
    whole = parts([text], SYNTAXES[name])
    assert parts(pieces, SYNTAXES[name]) == whole
    assert parts(list(text), SYNTAXES[name]) == whole


@pytest.mark.parametrize("name", sorted(SYNTAXES))
@given(text=TEXT)
def test_each_call_begins_and_ends_once_and_text_without_calls_is_kept(name: str, text: str) -> None:
    found = parts(list(text), SYNTAXES[name])
    begun = [part.index for part in found if isinstance(part, CallStarted)]
    assert begun == list(range(len(begun)))
    assert [part.index for part in found if isinstance(part, CallEnded)] == begun
    answer = fold(found)
    if not answer.calls:
        assert answer.content == text


@given(
    arguments=st.dictionaries(
        st.text(), st.recursive(st.text() | st.integers() | st.none(), lambda inner: st.lists(inner, max_size=3))
    )
)
def test_any_arguments_are_read_back(arguments: dict[str, object]) -> None:
    written = json.dumps(arguments)
    for syntax, text in (
        (TAGS, '<tool_call>{"name": "f", "arguments": %s}</tool_call>'),
        (LIST, '[TOOL_CALLS] [{"name": "f", "arguments": %s}]'),
        (BARE, '{"name": "f", "parameters": %s}'),
    ):
        assert calls(text % written, syntax) == [("f", written)]


@pytest.mark.parametrize("name", sorted(SYNTAXES))
def test_a_long_answer_takes_linear_time(name: str) -> None:
    """A quadratic parser would take hours; the bound only ends a hung test."""
    began_s = time.monotonic()
    units = ("<", "<tool_call>", "<tool_call>{", " ", "[", '{"name": ', CALL + ",", '"', "x")
    for unit in units:
        text = "<tool_call>" + unit * (400_000 // len(unit))
        for pieces in ([text], [text[at : at + 3] for at in range(0, len(text), 3)]):
            assert parts_count(pieces, SYNTAXES[name]) >= 0
    assert time.monotonic() - began_s < 60


def parts_count(pieces: Sequence[str], syntax: CallSyntax) -> int:
    parser = AnswerParser(syntax, prediction_id="p")
    return sum(len(parser.feed(piece)) for piece in pieces) + len(parser.end())
