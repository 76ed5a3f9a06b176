"""``response_format``: what the whole answer must match, as two doors read it, and what the core makes of it.

What can be enforced is for the service to say.
"""

from typing import Annotated, Final, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

from corral.core.errors import InvalidRequest
from corral.core.generation import Constraint

MAX_SCHEMA_BYTES: Final = 2**16
MAX_REGEX_CHARS: Final = 2048

ANY_OBJECT: Final = Constraint(kind="json_schema", source='{"type":"object"}')
"""Any JSON object: what ``json_object`` promises, and a ``json_schema`` without schema."""


class _Wire(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, allow_inf_nan=False)


class JsonSchemaFormat(_Wire):
    """A JSON Schema that the answer must match."""

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: str | None = None
    definition: dict[str, object] | None = Field(None, alias="schema")
    strict: bool | None = None


class ResponseFormat(_Wire):
    """What the whole answer must match."""

    type: Literal["text", "json_object", "json_schema", "regex"]
    json_schema: JsonSchemaFormat | None = None
    regex: Annotated[str, Field(min_length=1, max_length=MAX_REGEX_CHARS)] | None = None


def to_constraint(wanted: ResponseFormat | None) -> Constraint | None:
    """What the answer must match; None is anything.

    Raises:
        InvalidRequest: what ``type`` names is missing or too large.
    """
    match None if wanted is None else wanted.type:
        case "json_object":
            return ANY_OBJECT
        case "json_schema" if wanted is not None:
            return _from_schema(wanted)
        case "regex" if wanted is not None:
            if wanted.regex is None:
                raise _missing("regex")
            return Constraint(kind="regex", source=wanted.regex)
        case _:
            return None


def _from_schema(wanted: ResponseFormat) -> Constraint:
    if wanted.json_schema is None:
        raise _missing("json_schema")
    if wanted.json_schema.definition is None:
        return ANY_OBJECT
    source = orjson.dumps(wanted.json_schema.definition)
    if len(source) > MAX_SCHEMA_BYTES:
        param = "response_format.json_schema.schema"
        raise InvalidRequest(f"The JSON Schema is larger than {MAX_SCHEMA_BYTES} bytes.", param=param)
    return Constraint(kind="json_schema", source=source.decode())


def _missing(kind: str) -> InvalidRequest:
    return InvalidRequest(f"A response_format of type '{kind}' needs '{kind}'.", param=f"response_format.{kind}")
