"""From ``response_format`` to what the core can enforce, bounded: compiling a grammar can cost far more than its text.

Whether an engine can compile it is for the service to say; here is what no engine should be asked.
"""

import re
from collections.abc import Iterator
from typing import Any, Final, cast

import orjson

from corral.api.doors.openai.wire import ResponseFormat
from corral.core.errors import InvalidRequest
from corral.core.generation import Constraint

MAX_SCHEMA_BYTES: Final = 2**16
MAX_SCHEMA_DEPTH: Final = 32
MAX_COUNT: Final = 4096
"""Of ``maxItems`` and its like: no answer is longer than a context."""
MAX_REGEX_ATOMS: Final = 4096
"""Characters, sets and groups of a regular expression with every count written out."""
MAX_REGEX_DEPTH: Final = 32

ANY_OBJECT: Final = Constraint(kind="json_schema", source='{"type":"object"}')
"""Any JSON object: what ``json_object`` promises."""

_COUNTS: Final = frozenset({"minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"})
_REPEAT: Final = re.compile(r"\{(\d{1,9})(?:,(\d{0,9}))?\}", re.ASCII)
_SET: Final = re.compile(r"\[\^?\]?(?:[^\\\]]|\\.)*\]", re.DOTALL)


def to_constraint(wanted: ResponseFormat | None) -> Constraint | None:
    """What the answer must match; None is anything.

    Raises:
        InvalidRequest: what ``type`` names is missing, malformed, or larger than is compiled.
    """
    match wanted and wanted.type:
        case "json_object":
            return ANY_OBJECT
        case "json_schema":
            return _from_schema(cast("ResponseFormat", wanted))
        case "regex":
            pattern = cast("ResponseFormat", wanted).regex
            if pattern is None:
                raise InvalidRequest("A response_format of type 'regex' needs 'regex'.", param="response_format.regex")
            check_regex(pattern, param="response_format.regex")
            return Constraint(kind="regex", source=pattern)
        case _:
            return None


def _from_schema(wanted: ResponseFormat) -> Constraint:
    if wanted.json_schema is None:
        raise InvalidRequest(
            "A response_format of type 'json_schema' needs 'json_schema'.", param="response_format.json_schema"
        )
    if wanted.json_schema.definition is None:
        return ANY_OBJECT
    check_schema(wanted.json_schema.definition, param="response_format.json_schema.schema")
    return Constraint(kind="json_schema", source=orjson.dumps(wanted.json_schema.definition).decode())


def check_schema(schema: dict[str, object], *, param: str) -> None:
    """Refuse a JSON Schema that is too large, too deep, or points elsewhere.

    Raises:
        InvalidRequest: names *param* and the rule.
    """
    if len(orjson.dumps(schema)) > MAX_SCHEMA_BYTES:
        raise InvalidRequest(f"The JSON Schema is larger than {MAX_SCHEMA_BYTES} bytes.", param=param)
    for depth, key, value in _walk(schema):
        if depth > MAX_SCHEMA_DEPTH:
            raise InvalidRequest(f"The JSON Schema is nested more than {MAX_SCHEMA_DEPTH} deep.", param=param)
        if key in _COUNTS and isinstance(value, int | float) and not 0 <= value <= MAX_COUNT:
            raise InvalidRequest(f"'{key}' in the JSON Schema must be 0 to {MAX_COUNT}.", param=param)
        if key in ("$ref", "$dynamicRef") and isinstance(value, str) and not value.startswith("#"):
            raise InvalidRequest(f"'{key}' in the JSON Schema may only point into the schema itself.", param=param)
        if key == "pattern" and isinstance(value, str):
            check_regex(value, param=param)
        if key == "patternProperties" and isinstance(value, dict):
            for pattern in cast("dict[str, object]", value):
                check_regex(pattern, param=param)


def _walk(schema: object) -> Iterator[tuple[int, str | None, object]]:
    """Every value in a JSON document with its depth and, in an object, its key; not recursive."""
    waiting: list[tuple[int, str | None, object]] = [(0, None, schema)]
    while waiting:
        depth, key, value = waiting.pop()
        yield depth, key, value
        if isinstance(value, dict):
            inner = cast("dict[str, Any]", value)
            waiting.extend((depth + 1, name, inner[name]) for name in inner)
        elif isinstance(value, list):
            waiting.extend((depth + 1, None, item) for item in cast("list[Any]", value))


def check_regex(pattern: str, *, param: str) -> None:
    """Refuse a regular expression whose brackets do not pair, or that would be too large with its counts written out.

    Raises:
        InvalidRequest: names *param* and the rule.
    """
    if len(pattern) > MAX_REGEX_ATOMS:
        raise InvalidRequest(f"The regular expression is longer than {MAX_REGEX_ATOMS} characters.", param=param)
    groups, atom, at = [0], 0, 0  # sizes of the open groups, outermost first; size of the last atom
    while at < len(pattern):
        end = at + 1
        match pattern[at]:
            case "(":
                groups.append(0)
                atom = 0
            case ")":
                atom = groups.pop()
                if not groups:
                    raise InvalidRequest("The regular expression closes a group that it did not open.", param=param)
                groups[-1] += atom
            case "{" if repeat := _REPEAT.match(pattern, at):
                count = max(int(repeat[1]), int(repeat[2] or 0), 1)
                groups[-1] += atom * (count - 1)
                atom, end = atom * count, repeat.end()
            case "*" | "+" | "?" | "|" | "^" | "$":
                pass
            case _:
                atom, end = 1, _atom_end(pattern, at, param)
                groups[-1] += 1
        if len(groups) > MAX_REGEX_DEPTH or groups[-1] > MAX_REGEX_ATOMS:
            raise InvalidRequest("The regular expression is too large once its counts are written out.", param=param)
        at = end
    if len(groups) > 1:
        raise InvalidRequest("The regular expression leaves a group open.", param=param)


def _atom_end(pattern: str, at: int, param: str) -> int:
    """Where the character, escape or set that begins at *at* ends."""
    if pattern[at] == "\\":
        if at + 1 == len(pattern):
            raise InvalidRequest("The regular expression ends in a lone backslash.", param=param)
        return at + 2
    if pattern[at] != "[":
        return at + 1
    found = _SET.match(pattern, at)
    if found is None:
        raise InvalidRequest("The regular expression leaves a set open.", param=param)
    return found.end()
