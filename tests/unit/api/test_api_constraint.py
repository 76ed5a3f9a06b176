"""What no engine should be asked to compile."""

import time
from contextlib import suppress

import pytest

from corral.api.doors.openai.constraint import MAX_COUNT, MAX_REGEX_ATOMS, check_regex, check_schema
from corral.core.errors import InvalidRequest


def nested(depth: int) -> dict[str, object]:
    schema: dict[str, object] = {}
    for _ in range(depth):
        schema = {"not": schema}
    return schema


@pytest.mark.parametrize(
    "pattern",
    [
        "yes|no",
        r"\d{4}-\d{2}-\d{2}",
        r"[\]\\(){}a-z]{2,3}",
        "[^]a]",
        r"\(\[",
        "(a|(b{3}))*",
        "((((a))))",
        "a{,3}",
        "{",
        "a{4096}",
        "(a{64}){64}",
        ".{1,2000}",
        "a" * MAX_REGEX_ATOMS,
        "\N{LLAMA}+",
    ],
)
def test_a_regular_expression_of_reasonable_size_passes(pattern: str) -> None:
    check_regex(pattern, param="regex")


@pytest.mark.parametrize(
    "pattern",
    [
        "(",
        ")",
        "())",
        "[",
        "[a",
        r"[\]",
        "\\",
        "a{4097}",
        "(a{100}){100}",
        "((a{17}){17}){17}",
        "(ab|cd){1025}",
        "(" * 32 + "a" + ")" * 32,
        "a{999999999}",
        "a" * (MAX_REGEX_ATOMS + 1),
    ],
)
def test_a_regular_expression_that_is_broken_or_grows_too_large_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_regex(pattern, param="regex")
    assert caught.value.param == "regex"


@pytest.mark.parametrize("unit", ["[", "(", "a{9}", "\\", "[]", "{1", "()"])
def test_a_hostile_pattern_is_judged_at_once(unit: str) -> None:
    began = time.perf_counter()
    with suppress(InvalidRequest):
        check_regex(unit * (MAX_REGEX_ATOMS // len(unit)), param="regex")
    assert time.perf_counter() - began < 0.5


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}},
        {"properties": {"pattern": {"type": "string"}, "maxItems": {"type": "integer"}, "$ref": {}}},
        {"maxItems": MAX_COUNT, "minLength": 0},
        {"type": "string", "pattern": "^a+$"},
        {"patternProperties": {"^a": {}}},
        nested(32),
        {"enum": ["x" * 65_000]},
    ],
)
def test_a_schema_of_reasonable_size_passes(schema: dict[str, object]) -> None:
    check_schema(schema, param="schema")


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "https://example.org/schema"},
        {"items": {"$dynamicRef": "other.json"}},
        {"items": [{"maxItems": MAX_COUNT + 1}]},
        {"minLength": -1},
        {"maxLength": 1e300},
        {"pattern": "(a{100}){100}"},
        {"patternProperties": {"(": {}}},
        nested(33),
        nested(250),
        {"enum": ["x" * 65_600]},
    ],
)
def test_a_schema_that_is_too_large_or_points_elsewhere_is_refused(schema: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_schema(schema, param="schema")
    assert caught.value.param == "schema"
