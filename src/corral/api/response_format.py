"""``response_format``: the constraint on the whole answer, shared by the OpenAI and DeepInfra doors.

What can be enforced is for the service to say.
"""

from typing import Annotated, Final, Literal, Self

import orjson
from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from corral.api.wire_fields import Wire
from corral.core.errors import InvalidRequest
from corral.core.generation import Constraint

MAX_SCHEMA_BYTES: Final = 2**16
MAX_REGEX_CHARS: Final = 2048

ANY_OBJECT: Final = Constraint(kind="json_schema", source='{"type":"object"}')
"""Any JSON object: used for ``json_object``, and for ``json_schema`` without a schema."""
_TYPE_OF_FIELD: Final = {"json_schema": "json_schema", "regex": "regex", "schema": "json_object"}


class _Strict(Wire):
    # Unknown fields are errors: a schema under a misspelled name would be ignored, and any answer would match.
    model_config = ConfigDict(extra="forbid")


class JsonSchemaFormat(_Strict):
    """A JSON Schema that the answer must match."""

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: str | None = None
    definition: dict[str, object] | None = Field(None, alias="schema")
    strict: bool | None = None


class ResponseFormat(_Strict):
    """What the whole answer must match."""

    type: Literal["text", "json_object", "json_schema", "regex"]
    json_schema: JsonSchemaFormat | None = None
    definition: dict[str, object] | None = Field(None, alias="schema")
    """The schema of a ``json_object``, as some servers have it."""
    regex: Annotated[str, Field(min_length=1, max_length=MAX_REGEX_CHARS)] | None = None

    @model_validator(mode="after")
    def _no_field_of_another_type(self) -> Self:
        given = {"json_schema": self.json_schema, "regex": self.regex, "schema": self.definition}
        for field, value in given.items():
            if value is not None and _TYPE_OF_FIELD[field] != self.type:
                message = "'{field}' belongs to a response_format of type '{owner}', not '{type}'"
                context = {"field": field, "owner": _TYPE_OF_FIELD[field], "type": self.type}
                raise PydanticCustomError("contradiction", message, context)
        return self


def to_constraint(wanted: ResponseFormat | None) -> Constraint | None:
    """Convert a response format to the core's constraint; None for any text.

    Raises:
        InvalidRequest: what ``type`` names is missing or too large.
    """
    if wanted is None:
        return None
    match wanted.type:
        case "text":
            return None
        case "json_object":
            return _from_schema(wanted.definition, "response_format.schema")
        case "json_schema":
            if wanted.json_schema is None:
                raise _missing("json_schema")
            return _from_schema(wanted.json_schema.definition, "response_format.json_schema.schema")
        case "regex":
            if wanted.regex is None:
                raise _missing("regex")
            return Constraint(kind="regex", source=wanted.regex)


def _from_schema(definition: dict[str, object] | None, param: str) -> Constraint:
    if definition is None:
        return ANY_OBJECT
    source = orjson.dumps(definition)
    if len(source) > MAX_SCHEMA_BYTES:
        raise InvalidRequest(f"The JSON Schema is larger than {MAX_SCHEMA_BYTES} bytes.", param=param)
    return Constraint(kind="json_schema", source=source.decode())


def _missing(kind: str) -> InvalidRequest:
    return InvalidRequest(f"A response_format of type '{kind}' needs '{kind}'.", param=f"response_format.{kind}")
