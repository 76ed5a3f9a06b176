"""Format values in the languages of the snippets."""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, cast

_WIDTH = 88


def in_python(value: object, *, indent: int = 0) -> str:
    """Format a JSON value as a Python literal; *indent* is that of its line."""
    match value:
        case None | True | False:
            return repr(value)
        case Mapping():
            items = cast("Mapping[str, object]", value).items()
            parts = [f"{_text(name)}: {in_python(item, indent=indent + 4)}" for name, item in items]
            return _wrapped("{", parts, "}", indent=indent, step=4, trailing=True)
        case list() | tuple():
            parts = [in_python(item, indent=indent + 4) for item in cast("Sequence[object]", value)]
            return _wrapped("[", parts, "]", indent=indent, step=4, trailing=True)
        case _:
            return _text(value)


def as_arguments(values: Mapping[str, object], *, indent: int) -> str:
    """Format keyword arguments of a Python call, one per line."""
    pad = " " * indent
    return "".join(f"{pad}{name}={in_python(value, indent=indent)},\n" for name, value in values.items())


def in_javascript(value: object, *, indent: int = 0) -> str:
    """Format a JSON value as JavaScript; names are quoted only if necessary."""
    match value:
        case Mapping():
            items = cast("Mapping[str, object]", value).items()
            parts = [f"{_name(name)}: {in_javascript(item, indent=indent + 2)}" for name, item in items]
            return _wrapped("{", parts, "}", indent=indent, step=2, space=" ")
        case list() | tuple():
            parts = [in_javascript(item, indent=indent + 2) for item in cast("Sequence[object]", value)]
            return _wrapped("[", parts, "]", indent=indent, step=2)
        case _:
            return _text(value)


def in_json(value: Mapping[str, Any]) -> str:
    """Format a JSON document as one shell argument."""
    return shlex.quote(json.dumps(value, indent=2, ensure_ascii=False))


def _text(value: object) -> str:
    # JSON strings and numbers are valid Python and JavaScript.
    return json.dumps(value, ensure_ascii=False)


def _name(name: str) -> str:
    return name if name.isidentifier() else _text(name)


def _wrapped(
    opening: str, parts: Sequence[str], closing: str, *, indent: int, step: int, space: str = "", trailing: bool = False
) -> str:
    if not parts:
        return opening + closing
    line = f"{opening}{space}{', '.join(parts)}{space}{closing}"
    if len(line) + indent <= _WIDTH and "\n" not in line:
        return line
    pad, end = " " * (indent + step), " " * indent
    return f"{opening}\n{pad}" + f",\n{pad}".join(parts) + ("," if trailing else "") + f"\n{end}{closing}"
