"""Schemas: what is taken, and what is refused by name. Whether answers match is shown on the engine itself."""

import json
import re

import pytest

from corral.core.errors import InvalidRequest
from corral.engines.schemas import MAX_SCHEMA_BYTES, read_schema

INTEGER = {"type": "integer"}


def nested(depth: int) -> object:
    return {"type": "array", "items": nested(depth - 1)} if depth else INTEGER


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"not": INTEGER}, "'not'"),
        ({"type": "integer", "multipleOf": 7}, "'multipleOf'"),
        ({"type": "array", "uniqueItems": True}, "'uniqueItems'"),
        ({"allOf": [INTEGER, INTEGER]}, "'allOf'"),
        ({"anyOf": [INTEGER], "required": ["a"]}, "'required'"),
        ({"oneOf": [INTEGER, {"type": "number"}]}, "oneOf"),
        ({"$ref": "https://example.com/schema"}, "$ref"),
        ({"$ref": "#"}, "$ref"),
        ({"$ref": "#/$defs/a", "$defs": {}}, "$ref"),
        (
            {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"anyOf": [{"$ref": "#/$defs/a"}]}}},
            "itself",
        ),
        ({"type": "objct"}, "type"),
        ({"type": []}, "type"),
        ({"enum": []}, "enum"),
        ({"enum": [1.5]}, "enum"),
        ({"enum": ["a"], "type": "integer"}, "enum"),
        ({"enum": list(range(513))}, "512"),
        ({"type": "string", "pattern": "("}, "regular expression"),
        ({"type": "string", "pattern": "a", "maxLength": 3}, "combines"),
        ({"type": "string", "format": "hostname"}, "format"),
        ({"type": "string", "maxLength": 257}, "maxLength"),
        ({"type": "string", "maxLength": True}, "maxLength"),
        ({"type": "string", "minLength": 3, "maxLength": 2}, "below"),
        ({"prefixItems": [{"type": "string", "maxLength": 250}] * 5}, "counted"),
        ({"type": "number", "minimum": 0}, "not integers"),
        ({"type": "integer", "minimum": 5, "maximum": 3}, "no number"),
        ({"type": "integer", "minimum": -1000, "maximum": 0}, "negative"),
        ({"type": "integer", "minimum": 2**60}, "2**53"),
        ({"type": "array", "items": INTEGER, "maxItems": 10**9}, "maxItems"),
        ({"type": "object", "properties": {"a": INTEGER}, "required": ["b"]}, "'b'"),
        ({"type": "object", "properties": {"\ud800": INTEGER}}, "surrogate"),
        ({"type": "object", "patternProperties": {}}, "'patternProperties'"),
        ({"$defs": {"a/b": INTEGER}}, "names"),
        ({"prefixItems": [INTEGER], "minItems": 2}, "prefixItems"),
        ({"$defs": [], "type": "integer"}, "names"),
        (nested(40), "deeper"),
        ([], "object"),
        (False, "object"),
    ],
    ids=lambda value: json.dumps(value)[:60] if not isinstance(value, str) else value,
)
def test_unsupported_schema_keyword_is_rejected_by_name(schema: object, why: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(why)) as refused:
        read_schema(json.dumps(schema))
    assert refused.value.param == "response_format"


@pytest.mark.parametrize("source", ["", "{", "nope", "[" * 100_000, " " * (MAX_SCHEMA_BYTES + 1)])
def test_invalid_or_too_large_schema_is_rejected(source: str) -> None:
    with pytest.raises(InvalidRequest):
        read_schema(source)


def test_schema_annotations_are_ignored() -> None:
    assert (
        read_schema('{"type": "boolean", "title": "T", "description": "D", "default": true}') == '{"type": "boolean"}'
    )


def test_a_property_may_be_called_like_a_keyword() -> None:
    names = ["enum", "anyOf", "const", "required", "$defs", "properties"]
    plain = json.loads(read_schema(json.dumps({"properties": {key: {"type": "boolean"} for key in names}})))
    assert plain["properties"] == {key: {"type": "boolean"} for key in names}


def test_properties_beside_those_named_are_left_out_as_they_could_repeat_one() -> None:
    plain = json.loads(read_schema('{"properties": {"a": {"type": "null"}}, "additionalProperties": true}'))
    assert plain["additionalProperties"] is False


def test_discriminated_one_of_is_accepted() -> None:
    options = [{"properties": {"kind": {"const": kind}}, "required": ["kind"]} for kind in "ab"]
    assert "anyOf" in json.loads(read_schema(json.dumps({"oneOf": options})))


def test_a_long_chain_of_references_is_checked_in_no_time() -> None:
    definitions: dict[str, object] = {
        f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}, {"$ref": f"#/$defs/d{n + 1}"}]} for n in range(300)
    }
    definitions["d300"] = INTEGER
    read_schema(json.dumps({"$ref": "#/$defs/d0", "$defs": definitions}))
