"""Convert the text parts of a form into the equivalent JSON document."""

from collections.abc import Iterable, Mapping
from typing import Final, cast

from corral.api.doors.deepinfra.errors import wrong_field
from corral.api.doors.deepinfra.input_table import INPUTS
from corral.api.inputs import InputField
from corral.api.json_document import NotJson, parse_json

_FIELDS: Final[Mapping[str, InputField]] = {field.name: field for field in INPUTS.fields}
_BOOLEANS: Final = {"true": True, "1": True, "false": False, "0": False}


def from_parts(parts: Iterable[tuple[str, str]]) -> dict[str, object]:
    """Build the document: one value per name. A list may be JSON in one part, a bare string, or several parts.

    An empty part is a field that is left out, unless the field is required. Text that is no value of its field's type
    stays text, for validation to name the field.

    Raises:
        ValidationError: a field that is no list is there twice.
    """
    document: dict[str, object] = {}
    lists: dict[str, list[object]] = {}
    for name, text in parts:
        field = _FIELDS.get(name)
        if field is None:
            document[name] = text
        elif text == "" and not field.required:
            continue
        elif field.type == "array":
            items = _json(text)
            more = cast("list[object]", items) if isinstance(items, list) else [text]
            lists[name] = [*lists.get(name, []), *more]
        elif name in document:
            raise wrong_field(name, "The form has this field twice; send it once")
        else:
            document[name] = _value(field, text)
    return {**document, **lists}


def _value(field: InputField, text: str) -> object:
    match field.type:
        case "boolean":
            return _BOOLEANS.get(text.strip().lower(), text)
        case "integer" | "number" | "object":
            return _json(text)
        case _:
            return text


def _json(text: str) -> object:
    try:
        return parse_json(text.encode())
    except NotJson:
        return text
