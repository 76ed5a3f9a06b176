"""JSON body of native inference, built from the input table.

``null`` means the same as leaving a field out. JSON types are taken as they are; a number without fraction may stand
for an integer, and one string for a list of one. Unknown fields are let through unread.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, cast

from pydantic import BaseModel, BeforeValidator, Field, create_model

from corral.api.doors.deepinfra.input_table import INPUTS
from corral.api.inputs import InputField
from corral.api.response_format import ResponseFormat
from corral.api.wire_fields import LISTED, WHOLE, Wire, within

MAX_STOP_CHARS: Final = 256


def _kind(field: InputField) -> Any:
    """Pydantic type of a field."""
    match field.type:
        case "string":
            return Annotated[str, Field(min_length=field.min_length)]
        case "integer":
            return Annotated[int, within(field.accepted), WHOLE]
        case "number":
            return Annotated[float, within(field.accepted)]
        case "boolean":
            return bool
        case "array":
            item: Any = Annotated[str, Field(min_length=1, max_length=field.max_item_length or MAX_STOP_CHARS)]
            many: Any = Annotated[list[item], Field(max_length=field.max_items, fail_fast=True)]
            return Annotated[many, BeforeValidator(LISTED, json_schema_input_type=item | many)]
        case "object":
            return ResponseFormat


def _model(fields: Iterable[InputField]) -> type[BaseModel]:
    definitions: dict[str, Any] = {
        field.name: (_kind(field), ...) if field.required else (_kind(field) | None, None) for field in fields
    }
    return create_model("InferenceRequest", __base__=Wire, __doc__="Body of an inference request.", **definitions)


InferenceRequest: Final = _model(INPUTS.fields)
"""Pydantic model of the body: inputs are optional unless the table says required."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceInput:
    """Parsed inference request with all defaults filled in. Names are those of the input table."""

    input: str
    max_new_tokens: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    stop: tuple[str, ...]
    num_responses: int
    response_format: ResponseFormat | None
    seed: int | None
    stream: bool
    webhook: str | None
    user: str | None


def json_default(field: InputField) -> Any:
    """Default of a field as a JSON value."""
    return list(cast("tuple[str, ...]", field.default)) if isinstance(field.default, tuple) else field.default


def read_input(document: object, fields: Iterable[InputField]) -> InferenceInput:
    """Validate a body and fill in the defaults of *fields*, which are those of the requested model.

    Raises:
        ValidationError: a field is missing, of another type, or out of its range.
    """
    given: Mapping[str, Any] = dict(InferenceRequest.model_validate(document))
    values: dict[str, Any] = {
        field.name: field.default if given[field.name] is None else given[field.name] for field in fields
    }
    values["stop"] = tuple(values["stop"])
    return InferenceInput(**values)
