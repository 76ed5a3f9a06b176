"""Describe JSON Schemas in words: ``number, at least 0, at most 2``."""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from markupsafe import Markup, escape

_REF: Final = "#/components/schemas/"
_BOUNDS: Final[Mapping[str, str]] = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} of them",
    "maxItems": "at most {} of them",
}
_NULL: Final = {"type": "null"}

Schema = Mapping[str, Any]


def type_anchor(name: str) -> str:
    """HTML id of a type's description."""
    return "type-" + "".join(char if char.isalnum() else "-" for char in name)


def in_words(schema: Schema) -> Markup:
    """Describe a schema: type with a link, values, bounds."""
    parts = [_kind(schema)]
    parts += [escape(words.format(schema[name])) for name, words in _BOUNDS.items() if name in schema]
    if "pattern" in schema:
        parts.append(Markup("matching <code>{}</code>").format(schema["pattern"]))
    return Markup(", ").join(parts)


def default_of(schema: Schema) -> str:
    """Default as JSON; empty without one or if it is null."""
    return "" if schema.get("default") is None else json.dumps(schema["default"], ensure_ascii=False)


def _kind(schema: Schema) -> Markup:
    kinds: tuple[tuple[str, Callable[[], Markup]], ...] = (
        ("$ref", lambda: _link(schema["$ref"])),
        ("const", lambda: _values([schema["const"]])),
        ("enum", lambda: _values(schema["enum"])),
        ("anyOf", lambda: _either(schema["anyOf"])),
        ("oneOf", lambda: _either(schema["oneOf"])),
        ("allOf", lambda: Markup(" and ").join(map(in_words, schema["allOf"]))),
        ("type", lambda: _typed(schema)),
    )
    return next((make() for name, make in kinds if name in schema), Markup("any JSON"))


def _typed(schema: Schema) -> Markup:
    match schema["type"]:
        case "array" if schema.get("items"):
            return Markup("array of {}").format(in_words(schema["items"]))
        case "object" if isinstance(schema.get("additionalProperties"), dict):
            return Markup("object of {}").format(in_words(schema["additionalProperties"]))
        case str(name):
            return escape(name)
        case names:
            return escape(" or ".join(names))


def _either(schemas: Iterable[Schema]) -> Markup:
    every = list(schemas)
    words = [in_words(each) for each in every if each != _NULL]
    return Markup(" or ").join([*dict.fromkeys(words), *(["null"] if _NULL in every else [])])


def _values(values: Iterable[object]) -> Markup:
    return Markup(" or ").join(Markup("<code>{}</code>").format(json.dumps(each)) for each in values)


def _link(reference: str) -> Markup:
    name = reference.removeprefix(_REF)
    return Markup('<a href="#{}">{}</a>').format(type_anchor(name), name)
