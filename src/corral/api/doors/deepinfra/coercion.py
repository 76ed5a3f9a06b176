"""From the parts of a form, which are all text, to the document that the same request would be as JSON. Pure."""

from collections.abc import Iterable, Mapping
from typing import Final, cast

import orjson

from corral.api.doors.deepinfra.wire import FIELDS
from corral.catalog.inputs import InputType

_TYPES: Final[Mapping[str, InputType]] = {field.name: field.type for field in FIELDS}
_BOOLEANS: Final = {"true": True, "1": True, "false": False, "0": False}


def from_parts(parts: Iterable[tuple[str, str]]) -> dict[str, object]:
    """One value per name. A list may be JSON in one part, a bare string, or several parts; else the last part counts.

    Text that is no value of its field's type stays text, for validation to name the field.
    """
    document: dict[str, object] = {}
    lists: dict[str, list[object]] = {}
    for name, text in parts:
        match _TYPES.get(name, "string"):
            case "string":
                document[name] = text
            case "boolean":
                document[name] = _BOOLEANS.get(text.strip().lower(), text)
            case "integer" | "number" | "object":
                document[name] = _json(text)
            case "array":
                items = _json(text)
                more = cast("list[object]", items) if isinstance(items, list) else [text]
                lists[name] = [*lists.get(name, []), *more]
    return {**document, **lists}


def _json(text: str) -> object:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
