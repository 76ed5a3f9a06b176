"""``response_format``: a schema is enforced wherever it stands, and refused where it does not belong."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

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
    ("wanted", "field"),
    [
        ({"type": "text", "schema": SCHEMA}, "schema"),
        ({"type": "json_schema", "json_schema": {"name": "n"}, "schema": SCHEMA}, "schema"),
        ({"type": "json_object", "json_schema": {"name": "n", "schema": SCHEMA}}, "json_schema"),
        ({"type": "json_object", "regex": "a"}, "regex"),
        ({"type": "regex", "regex": "a", "schema": SCHEMA}, "schema"),
    ],
)
def test_a_field_of_another_type_is_refused_by_name(wanted: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError, match=f"'{field}' belongs to a response_format of type"):
        ResponseFormat.model_validate(wanted)


def test_a_schema_that_is_too_large_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequest) as refused:
        to_constraint(ResponseFormat.model_validate({"type": "json_object", "schema": {"enum": ["a" * 2**16]}}))
    assert refused.value.param == "response_format.schema"
