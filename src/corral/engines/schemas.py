"""Check JSON Schemas, and rewrite them with only those keywords that grammar engines enforce.

A grammar engine ignores in silence what it cannot express (``not``, ``allOf``, ``multipleOf``, the siblings of
``$ref``, …): the answer would then only be hoped to match. Here every keyword is either enforced or refused by name.
The result may be narrower than the schema, never wider: what matches it matches the schema.
"""

import json
import re
from collections.abc import Callable, Mapping
from itertools import combinations
from typing import Final, NoReturn, cast

from corral.core.errors import InvalidRequest
from corral.engines.patterns import read_pattern
from corral.engines.schema_formats import FORMAT_PATTERNS
from corral.engines.schema_options import spread_options

MAX_SCHEMA_BYTES: Final = 64 * 1024
_MAX_DEPTH: Final = 32
_MAX_NODES: Final = 2000
_MAX_LENGTH: Final = 256
_MAX_REPEATED: Final = 1024
_MAX_ITEMS: Final = 1000
_MAX_EXACT: Final = 2**53
_MOST_LISTED: Final = 512

_ANNOTATIONS: Final = frozenset(
    ("title", "description", "default", "examples", "$schema", "$id", "$comment", "deprecated", "readOnly", "writeOnly")
)
_DEFINITIONS: Final = ("$defs", "definitions")
_HALF_CHARACTER: Final = re.compile(r"[\ud800-\udfff]")
_TYPES: Final = ("string", "integer", "number", "boolean", "null", "array", "object")

_CHARACTER: Final = f'{read_pattern(".", in_json=True).text}|\\\\["\\\\/bfnrt]'
"""One character between the quotes of a JSON string, written as it is or as an escape."""
_STRING: Final = f"^({_CHARACTER})*$"
"""Grammar engines' own strings let control characters and half characters through."""
_ANYTHING: Final = "any JSON"
"""A definition's name that no schema may use."""

Node = dict[str, object]


def read_schema(source: str) -> str:
    """Check and rewrite a schema; returns it as JSON text.

    Raises:
        InvalidRequest: not a schema, too large, or with a keyword that cannot be enforced; names it and its place.
    """
    if len(source.encode()) > MAX_SCHEMA_BYTES:
        _refuse("#", f"has more than {MAX_SCHEMA_BYTES} bytes")
    try:
        schema: object = json.loads(source)
    except (ValueError, RecursionError):
        _refuse("#", "is not JSON")
    return json.dumps(_Reader(schema).read(), ensure_ascii=False)


def _refuse(place: str, why: str) -> NoReturn:
    raise InvalidRequest(f"The JSON schema {why} (at {place[:200]}).", param="response_format")


class _Reader:
    def __init__(self, schema: object) -> None:
        self._schema = schema
        self._nodes = 0
        self._repeated = 0
        self._listed = 0
        self._direct: dict[str, set[str]] = {}
        """Definition → definitions it is equal to, or may be, without anything read in between."""
        self._names: set[str] = set()
        self._needs_anything = False

    def read(self) -> object:
        root: object = {} if self._schema is True else self._schema
        if not isinstance(root, dict):
            _refuse("#", "is neither an object nor true")
        fields = cast("Node", root)
        given = self._definitions(fields)
        self._names = {f"#/{key}/{name}" for key, group in given.items() for name in group}
        plain = cast("Node", self._node({k: v for k, v in fields.items() if k not in _DEFINITIONS}, "#", 0))
        groups: dict[str, Node] = {
            key: {name: self._node(node, f"#/{key}/{name}", 1) for name, node in group.items()}
            for key, group in given.items()
        }
        self._check_ends()
        if self._needs_anything:
            groups.setdefault("$defs", {})[_ANYTHING] = _any_json()
        return spread_options({**plain, **groups})

    def _check_ends(self) -> None:
        """Refuse definitions that refer to themselves: drop those that refer to no other until only cycles are left."""
        left = {name: set(others) for name, others in self._direct.items()}
        while left:
            done = [name for name, others in left.items() if not others & left.keys()]
            if not done:
                _refuse(min(left), "refers to itself without end")
            for name in done:
                del left[name]

    def _definitions(self, root: Node) -> dict[str, Node]:
        found: dict[str, Node] = {}
        for key in _DEFINITIONS:
            group = root.get(key)
            if group is None:
                continue
            if not isinstance(group, dict) or not all(
                re.fullmatch(r"[\w.-]{1,128}", name, re.ASCII) for name in cast("Node", group)
            ):
                _refuse(f"#/{key}", "has definitions whose names are not letters, digits, '_', '.' and '-'")
            found[key] = cast("Node", group)
        return found

    def _node(self, node: object, place: str, depth: int) -> object:
        self._nodes += 1
        if depth > _MAX_DEPTH or self._nodes > _MAX_NODES:
            _refuse(place, f"is nested deeper than {_MAX_DEPTH} or has more than {_MAX_NODES} parts")
        if node is True:
            return self._anything()
        if not isinstance(node, dict):
            _refuse(place, "has something that is neither an object nor true where a schema belongs")
        fields = {key: value for key, value in cast("Node", node).items() if key not in _ANNOTATIONS}
        for key, read in self._single_forms().items():
            if key in fields:
                return read(fields, place, depth)
        return self._typed(fields, place, depth) if fields else self._anything()

    def _anything(self) -> Node:
        self._needs_anything = True
        return {"$ref": f"#/$defs/{_ANYTHING}"}

    def _single_forms(self) -> Mapping[str, "Callable[[Node, str, int], object]"]:
        """Keywords beside which the grammar ignores all others."""
        return {
            "$ref": self._reference,
            "const": self._const,
            "enum": self._enum,
            "anyOf": self._any_of,
            "oneOf": self._one_of,
            "allOf": self._all_of,
        }

    def _only(self, fields: Node, place: str, *allowed: str) -> None:
        for key in fields.keys() - set(allowed):
            _refuse(place, f"has {key!r} where it cannot be enforced")

    def _reference(self, fields: Node, place: str, _depth: int) -> object:
        self._only(fields, place, "$ref")
        target = fields["$ref"]
        if not isinstance(target, str) or target not in self._names:
            _refuse(place, "has a $ref that is not to one of its own $defs")
        self._note_direct(place, target)
        return {"$ref": target}

    def _note_direct(self, place: str, target: str) -> None:
        owner = next((name for name in self._names if place == name or place.startswith(name + "/")), None)
        inner = place.removeprefix(owner or "")
        if owner and not re.search(r"/(properties|items|prefixItems|additionalProperties)", inner):
            self._direct.setdefault(owner, set()).add(target)

    def _const(self, fields: Node, place: str, depth: int) -> object:
        return self._enum({**fields, "enum": [fields["const"]]}, place, depth, "const")

    def _enum(self, fields: Node, place: str, _depth: int, key: str = "enum") -> object:
        self._only(fields, place, "enum", "type", key)
        given: object = fields["enum"]
        values = cast("list[object]", given) if isinstance(given, list) else []
        if not values:
            _refuse(place, "has an enum without values")
        self._listed += len(values)
        if self._listed > _MOST_LISTED:
            _refuse(place, f"lists more than {_MOST_LISTED} values together")
        kinds = self._kinds(fields, place) if "type" in fields else _TYPES
        for value in values:
            kind = _kind_of(value)
            if kind is None or not ({kind, "number" if kind == "integer" else kind} & set(kinds)):
                _refuse(place, f"has a value in {key} that is of another type, or no string, integer, boolean or null")
        return {"enum": values}

    def _any_of(self, fields: Node, place: str, depth: int) -> object:
        return {"anyOf": self._options(fields, "anyOf", place, depth)}

    def _one_of(self, fields: Node, place: str, depth: int) -> object:
        options = self._options(fields, "oneOf", place, depth)
        if not all(_apart(one, other) for one, other in combinations(options, 2)):
            _refuse(place, "has a oneOf whose options are not told apart by type or a constant property; use anyOf")
        return {"anyOf": options}

    def _all_of(self, fields: Node, place: str, depth: int) -> object:
        options = self._options(fields, "allOf", place, depth)
        if len(options) != 1:
            _refuse(place, "has 'allOf' with several parts, which cannot be enforced")
        return options[0]

    def _options(self, fields: Node, key: str, place: str, depth: int) -> list[object]:
        self._only(fields, place, key)
        options: object = fields[key]
        listed = cast("list[object]", options) if isinstance(options, list) else []
        if not listed:
            _refuse(place, f"has an {key} without options")
        return [self._node(option, f"{place}/{key}/{n}", depth + 1) for n, option in enumerate(listed)]

    def _kinds(self, fields: Node, place: str) -> list[str]:
        kinds: object = fields["type"]
        listed = cast("list[object]", kinds) if isinstance(kinds, list) else [kinds]
        if not listed or not all(kind in _TYPES for kind in listed):
            _refuse(place, "has a type that is none of JSON's")
        return cast("list[str]", listed)

    def _typed(self, fields: Node, place: str, depth: int) -> object:
        if "type" not in fields and ("properties" in fields or "additionalProperties" in fields):
            fields = {**fields, "type": "object"}
        elif "type" not in fields and ("items" in fields or "prefixItems" in fields):
            fields = {**fields, "type": "array"}
        if "type" not in fields:
            self._only(fields, place)
        kinds = self._kinds(fields, place)
        if len(kinds) > 1:
            rest = {key: value for key, value in fields.items() if key != "type"}
            return {"anyOf": [self._kind(kind, self._keywords_of(kind, rest), place, depth) for kind in kinds]}
        return self._kind(kinds[0], {key: value for key, value in fields.items() if key != "type"}, place, depth)

    def _keywords_of(self, kind: str, fields: Node) -> Node:
        """A keyword says nothing about values of another type; one that no type knows stays, to be refused."""
        others = {key for name, keys in _KEYWORDS.items() if name != kind for key in keys}
        return {key: value for key, value in fields.items() if key in _KEYWORDS[kind] or key not in others}

    def _kind(self, kind: str, fields: Node, place: str, depth: int) -> object:
        self._only(fields, place, *_KEYWORDS[kind])
        match kind:
            case "string":
                return {"type": kind, **self._string(fields, place)}
            case "integer" | "number":
                return self._number(kind, fields, place)
            case "array":
                return {"type": kind, **self._array(fields, place, depth)}
            case "object":
                return {"type": kind, **self._object(fields, place, depth)}
            case _:
                return {"type": kind}

    def _string(self, fields: Node, place: str) -> Node:
        if len(fields.keys() & {"pattern", "format"}) + bool(fields.keys() & {"minLength", "maxLength"}) > 1:
            _refuse(place, "combines pattern, format or lengths, of which a grammar can enforce one")
        if "format" in fields:
            name = fields["format"]
            if name not in FORMAT_PATTERNS:
                _refuse(place, f"has a format other than {', '.join(FORMAT_PATTERNS)}")
            fields = {"pattern": FORMAT_PATTERNS[cast("str", name)]}
        if "pattern" in fields:
            if not isinstance(fields["pattern"], str):
                _refuse(place, "has a pattern that is no text")
            pattern = read_pattern(fields["pattern"], in_json=True)
            self._spend(pattern.repeated, place)
            return {"pattern": f"^{pattern.text}$" if "|" not in pattern.text else f"^({pattern.text})$"}
        least, most = self._bounds(fields, "Length", _MAX_LENGTH, place)
        self._spend(most or least, place)
        return {"pattern": f"^({_CHARACTER}){{{least},{'' if most is None else most}}}$"}

    def _spend(self, repeated: int, place: str) -> None:
        self._repeated += repeated
        if self._repeated > _MAX_REPEATED:
            _refuse(place, f"asks for more than {_MAX_REPEATED} counted characters together")

    def _bounds(self, fields: Node, what: str, limit: int, place: str) -> tuple[int, int | None]:
        least, most = fields.get(f"min{what}", 0), fields.get(f"max{what}")
        for value in (least, limit if most is None else most):
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= limit:
                _refuse(place, f"has a min{what} or max{what} that is not in [0, {limit}]")
        if isinstance(most, int) and most < cast("int", least):
            _refuse(place, f"has a max{what} below its min{what}")
        return cast("int", least), cast("int | None", most)

    def _number(self, kind: str, fields: Node, place: str) -> Node:
        if kind == "number" and fields:
            _refuse(place, "has bounds on numbers that are not integers, which cannot be enforced")
        for key, value in fields.items():
            if not isinstance(value, int) or isinstance(value, bool) or abs(value) > _MAX_EXACT:
                _refuse(place, f"has a {key} that is no whole number within 2**53")
        values = cast("dict[str, int]", fields)
        least = max([values[k] + n for k, n in (("minimum", 0), ("exclusiveMinimum", 1)) if k in values], default=None)
        most = min([values[k] - n for k, n in (("maximum", 0), ("exclusiveMaximum", 1)) if k in values], default=None)
        if least is not None and most is not None and most < least:
            _refuse(place, "allows no number")
        if least is not None and least >= 0:
            return {"type": kind, "minimum": least, **({} if most is None else {"maximum": most})}
        if least is not None and most is not None and most - least < _MOST_LISTED:
            return cast("Node", self._enum({"enum": list(range(least, most + 1))}, place, 0))
        if fields:
            _refuse(place, f"has bounds on a number that may be negative, further apart than {_MOST_LISTED}")
        return {"type": kind}

    def _array(self, fields: Node, place: str, depth: int) -> Node:
        least, most = self._bounds(fields, "Items", _MAX_ITEMS, place)
        plain: Node = {key: value for key, value in fields.items() if key in {"minItems", "maxItems"}}
        if "prefixItems" in fields:
            prefix = fields["prefixItems"]
            if not isinstance(prefix, list) or not prefix or least > len(cast("list[object]", prefix)):
                _refuse(place, "has a prefixItems that is no list, or shorter than minItems")
            listed = cast("list[object]", prefix)
            if most is not None and most < len(listed):
                _refuse(place, "has a maxItems below the length of prefixItems")
            # Fewer would be allowed, more too: all of them and nothing else is narrower, and no grammar errs.
            return {
                "prefixItems": [self._node(one, f"{place}/prefixItems/{n}", depth + 1) for n, one in enumerate(listed)],
                "items": False,
                "minItems": len(listed),
            }
        plain["items"] = self._node(fields.get("items", True), f"{place}/items", depth + 1)
        return plain

    def _object(self, fields: Node, place: str, depth: int) -> Node:
        properties: object = fields.get("properties", {})
        required: object = fields.get("required", [])
        if not isinstance(properties, dict) or not isinstance(required, list):
            _refuse(place, "has properties that are no object, or a required that is no list")
        named = cast("Node", properties)
        missing = [name for name in cast("list[object]", required) if name not in named]
        if missing:
            _refuse(place, f"requires {str(missing[0])[:80]!r}, which is not among its properties")
        if any(_HALF_CHARACTER.search(name) for name in named):
            _refuse(place, "has a property whose name has half a character (a lone surrogate)")
        read = {name: self._node(one, f"{place}/properties/{name}", depth + 1) for name, one in named.items()}
        further = fields.get("additionalProperties", not named)
        if named or further is False:
            # Properties beside those named could repeat one of them, so there are none.
            return {"properties": read, "required": required, "additionalProperties": False}
        value = self._node(further, f"{place}/additionalProperties", depth + 1)
        return {"patternProperties": {_STRING: value}, "additionalProperties": False}


_KEYWORDS: Final[dict[str, frozenset[str]]] = {
    "string": frozenset(("minLength", "maxLength", "pattern", "format")),
    "integer": frozenset(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")),
    "number": frozenset(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")),
    "boolean": frozenset(),
    "null": frozenset(),
    "array": frozenset(("items", "prefixItems", "minItems", "maxItems")),
    "object": frozenset(("properties", "required", "additionalProperties")),
}


def _any_json() -> Node:
    this: Node = {"$ref": f"#/$defs/{_ANYTHING}"}
    scalars: list[Node] = [{"type": kind} for kind in ("number", "boolean", "null")]
    string: Node = {"type": "string", "pattern": _STRING}
    array: Node = {"type": "array", "items": this}
    record: Node = {"type": "object", "patternProperties": {_STRING: this}, "additionalProperties": False}
    return {"anyOf": [string, *scalars, array, record]}


def _kind_of(value: object) -> str | None:
    match value:
        case bool():
            return "boolean"
        case str():
            return "string"
        case int() if abs(value) <= _MAX_EXACT:
            return "integer"
        case None:
            return "null"
        case _:
            return None


def _apart(one: object, other: object) -> bool:
    """Whether no value matches both options of a ``oneOf``, as far as types and constants tell."""
    a, b = cast("Node", one), cast("Node", other)
    if not _types_of(a) & _types_of(b):
        return True
    if "enum" in a and "enum" in b:
        return not set(cast("list[str]", a["enum"])) & set(cast("list[str]", b["enum"]))
    return any(not values & _constants(b)[name] for name, values in _constants(a).items() if name in _constants(b))


def _types_of(node: Node) -> set[object]:
    if "enum" in node:
        return {_kind_of(value) for value in cast("list[object]", node["enum"])}
    kind = node.get("type")
    if kind is None:
        return set(_TYPES)
    return {kind, "integer"} if kind == "number" else {kind}


def _constants(node: Node) -> dict[str, set[object]]:
    """Values of the required properties that have only some."""
    properties = cast("dict[str, Node]", node.get("properties", {}))
    required = cast("list[str]", node.get("required", []))
    return {
        name: set(cast("list[object]", properties[name]["enum"])) for name in required if "enum" in properties[name]
    }
