"""``response_format``: a schema is enforced wherever it stands, and refused where it does not belong."""

import json
from typing import Any

import pytest

from corral.api.response_format import ANY_OBJECT, ResponseFormat, to_constraint
from corral.core.errors import InvalidRequest

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "null"}}}


@pytest.mark.parametrize(
    "wanted",
    [
        {"type": "json_object", "schema": SCHEMA},
        {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}},
    ],
)
def test_a_schema_becomes_the_constraint(wanted: dict[str, Any]) -> None:
    constraint = to_constraint(ResponseFormat.model_validate(wanted))
    assert constraint is not None
    assert json.loads(constraint.source) == SCHEMA


def test_a_json_object_without_schema_is_any_object() -> None:
    assert to_constraint(ResponseFormat.model_validate({"type": "json_object"})) == ANY_OBJECT


@pytest.mark.parametrize(
    ("wanted", "param"),
    [
        ({"type": "text", "schema": SCHEMA}, "response_format.schema"),
        ({"type": "json_schema", "json_schema": {"name": "n"}, "schema": SCHEMA}, "response_format.schema"),
        ({"type": "json_object", "json_schema": {"name": "n", "schema": SCHEMA}}, "response_format.json_schema"),
        ({"type": "json_object", "regex": "a"}, "response_format.regex"),
        ({"type": "regex", "regex": "a", "schema": SCHEMA}, "response_format.schema"),
        ({"type": "json_object", "schema": {"enum": ["a" * 2**16]}}, "response_format.schema"),
    ],
)
def test_a_field_of_another_type_is_refused_by_name(wanted: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        to_constraint(ResponseFormat.model_validate(wanted))
    assert refused.value.param == param
