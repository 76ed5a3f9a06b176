"""Every place in a request where callers may write text: enumerated from the OpenAPI document and the pages' forms.

A field that is added to a wire model, to the catalog's inputs or to a form is found here without being named.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any, Final
from urllib.parse import quote, urlencode

from corral.api.doors.replicate.input_table import INPUTS
from tests.server.harness import MODEL

Step = str | int
Document = dict[str, Any]
BOUNDARY: Final = "corral-growth-test"
_MEANT: Final[Mapping[str, Any]] = {
    "model": MODEL,
    "version": MODEL,
    "messages": [{"role": "user", "content": "Hi"}],
    "prompt": "Hi",
    "input": "Hi",
    "name": "key",
    "requestIds": ["R00000000000000000000000"],
}
"""Values that let a request come as far as it can, by property."""
_IN_PATHS: Final[Mapping[str, str]] = {"owner": "local", "name": "tiny", "model": "tiny"}
_SCHEMA_SHAPES: Final[Sequence[Callable[[str], Document]]] = (
    lambda text: {"type": "object", "properties": {text: {"type": "string"}}, "required": [text]},
    lambda text: {"const": text},
    lambda text: {"enum": [text, "a"]},
    lambda text: {"type": "string", "pattern": text},
    lambda text: {"$ref": text},
    lambda text: {"type": "string", "description": text},
    lambda text: {"type": text},
)
"""Where text may stand in a JSON Schema."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One HTTP request."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A place for text in a request."""

    name: str
    call: Callable[[str], Call]
    """The request with a text there."""


def places_in_bodies(document: Document) -> Iterator[Place]:
    """Of JSON and multipart bodies; *document* is the OpenAPI document. Paths that read the same body count once."""
    seen: set[str] = set()
    for method, path, operation in _operations(document):
        content: Document = operation.get("requestBody", {}).get("content", {})
        for media_type, entry in content.items():
            body = f"{media_type} {entry['schema']}"
            if body in seen:
                continue
            seen.add(body)
            for schema in entry["schema"].get("anyOf", [entry["schema"]]):
                read = _Schema(document, schema)
                make = _json_places if media_type == "application/json" else _part_places
                yield from make(method, _filled(path), read)


def places_in_heads(document: Document) -> Iterator[Place]:
    """Of paths, queries and headers."""
    seen: set[tuple[str, str, str]] = set()
    for method, path, operation in _operations(document):
        for parameter in operation.get("parameters", ()):
            where, name = parameter["in"], parameter["name"]
            if (key := (operation["summary"], where, name)) not in seen:
                seen.add(key)
                yield _head_place(method, path, where, name)


def places_in_forms(page: str, html: str) -> Iterator[Place]:
    """Of the forms on a page; *html* is the page as its account sees it."""
    reader = _Forms()
    reader.feed(html)
    for form in reader.forms:
        for action in form.actions:
            for name in form.values:
                yield Place(
                    name=f"{form.method} {action} {name} (on {page})",
                    call=lambda text, form=form, action=action, name=name: form.call(action, {name: text}),
                )


def _operations(document: Document) -> Iterator[tuple[str, str, Document]]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield method.upper(), path, operation


def _filled(path: str, given: Mapping[str, str] | None = None) -> str:
    values = {**_IN_PATHS, **(given or {})}
    return re.sub(r"\{(\w+)\}", lambda match: values.get(match[1], "x"), path)


class _Schema:
    """A JSON Schema with the document that its references point into."""

    def __init__(self, document: Document, schema: Document) -> None:
        self._document = document
        self.schema = self._resolved(schema)

    def strings(self) -> Iterator[tuple[Step, ...]]:
        """The way to every value that may be a text; ``additionalProperties`` end in a key of their own."""
        yield from self._strings(self.schema, ())

    def example(self, way: tuple[Step, ...], text: str) -> Any:
        """A document with *text* at the end of *way*, and beside it no more than must be there."""
        return self._example(self.schema, way, text)

    def _strings(self, schema: Document, way: tuple[Step, ...]) -> Iterator[tuple[Step, ...]]:
        schema = self._resolved(schema)
        alternatives = schema.get("anyOf") or schema.get("oneOf")
        if alternatives:
            found = dict.fromkeys(each for one in alternatives for each in self._strings(one, way))
            yield from found
        elif schema.get("type") == "array":
            yield from self._strings(schema.get("items", {}), (*way, 0))
        elif schema.get("type") == "object":
            for name, inner in schema.get("properties", {}).items():
                yield from self._strings(inner, (*way, name))
            if "properties" not in schema or schema.get("additionalProperties"):
                yield (*way, "any")
        elif schema.get("type", "string") == "string":
            yield way

    def _example(self, schema: Document, way: tuple[Step, ...], text: str) -> Any:
        if not way:
            return text
        first, *rest = way
        schema = self._holding(self._resolved(schema), first)
        if isinstance(first, int):
            return [self._example(schema.get("items", {}), tuple(rest), text)]
        made = self._least(schema)
        properties = schema.get("properties", {})
        if first in properties.get("type", {}).get("enum", ()):
            made["type"] = first  # as response_format does, the object says which of its properties counts
        made[first] = self._example(properties.get(first, {}), tuple(rest), text)
        return made

    def _holding(self, schema: Document, step: Step) -> Document:
        """The alternative that has *step* in it."""
        for one in map(self._resolved, schema.get("anyOf", [schema])):
            is_array = one.get("type") == "array"
            if is_array if isinstance(step, int) else one.get("type") == "object":
                return one
        raise AssertionError(f"{schema} has no {step}")

    def _least(self, schema: Document) -> Document:
        """An object with what it must have."""
        made: Document = {}
        for name in schema.get("required", ()):
            inner = self._resolved(schema["properties"][name])
            made[name] = inner["enum"][0] if "enum" in inner else deepcopy(_MEANT.get(name, "x"))
            if inner.get("type") == "object":
                made[name] = {"prompt": "Hi", "max_tokens": 1} if name == "input" else {}
        limit = next((name for name in ("max_tokens", "max_new_tokens") if name in schema.get("properties", {})), None)
        return {**made, limit: 1} if limit else made

    def _resolved(self, schema: Document) -> Document:
        while "$ref" in schema:
            schema = self._document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        return schema


def _json_places(method: str, path: str, schema: _Schema) -> Iterator[Place]:
    def place(name: str, document: Callable[[str], object]) -> Place:
        headers = {"content-type": "application/json"}
        return Place(
            name=f"{method} {path} {name}",
            call=lambda text: Call(
                method=method, path=path, headers=headers, body=json.dumps(document(text), ensure_ascii=False).encode()
            ),
        )

    def example(way: tuple[Step, ...]) -> Callable[[str], Any]:
        return lambda text: schema.example(way, text)

    least = schema.example(("an unknown field",), "x")
    yield place("(the name of a field)", lambda text: {**least, text: 1})
    for way in schema.strings():
        if way[-2:] == ("schema", "any"):  # a JSON Schema of the caller's own
            for index, shape in enumerate(_SCHEMA_SHAPES):
                yield place(
                    f"{_dotted(way[:-1])} ({index})",
                    lambda text, way=way, shape=shape: _put(schema.example(way, ""), way[:-1], shape(text)),
                )
        elif way == ("input", "any"):  # Replicate's: what a model takes stands in the catalog
            for name in ("prompt", *(each.name for each in INPUTS.fields), "any"):
                yield place(
                    f"input.{name}",
                    lambda text, way=way, name=name: {
                        **schema.example(way, ""),
                        "input": {"prompt": "Hi", "max_tokens": 1, name: text},
                    },
                )
        else:
            yield place(_dotted(way), example(way))


def _part_places(method: str, path: str, schema: _Schema) -> Iterator[Place]:
    def place(name: str, parts: Callable[[str], Mapping[str, str]], *, boundary: str = BOUNDARY) -> Place:
        content_type = f"multipart/form-data; boundary={boundary}"
        return Place(
            name=f"{method} {path} part {name}",
            call=lambda text: Call(
                method=method, path=path, headers={"content-type": content_type}, body=_multipart(parts(text))
            ),
        )

    least = {
        name: "Hi" if "file" not in name else "x" for name in schema.example(("any",), "x") if name not in ("any",)
    }
    for name in schema.schema["properties"]:
        yield place(name, lambda text, name=name: {**least, name: text})
    yield place("(its name)", lambda text: {**least, text: "x"})
    yield place("(its file name)", lambda text: {**least, f'content"; filename="{text}': "x"})
    yield place("(its head)", lambda text: {**least, f'content"\r\nX-Other: {text}\r\nX-More: "': "x"})


def _multipart(parts: Mapping[str, str]) -> bytes:
    lines = "".join(
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n'
        for name, text in parts.items()
    )
    return f"{lines}--{BOUNDARY}--\r\n".encode()


def _head_place(method: str, path: str, where: str, name: str) -> Place:
    def call(text: str) -> Call:
        match where:
            case "path":
                return Call(method=method, path=_filled(path, {name: text}))
            case "query":
                return Call(method=method, path=_filled(path), query=f"{name}={quote(text)}")
            case _:
                return Call(method=method, path=_filled(path), headers={name: text}, body=b"{}")

    return Place(name=f"{method} {path} {where} {name}", call=call)


def _put(document: Document, way: tuple[Step, ...], value: object) -> Document:
    """*document* with *value* at the end of *way*."""
    inner: Any = document
    for step in way[:-1]:
        inner = inner[step]
    inner.pop("any", None)
    inner[way[-1]] = value
    return document


def _dotted(way: tuple[Step, ...]) -> str:
    return ".".join(map(str, way))


@dataclass(slots=True)
class _Form:
    method: str
    actions: list[str]
    values: dict[str, str]

    def call(self, action: str, changes: Mapping[str, str]) -> Call:
        path, _, query = action.partition("#")[0].partition("?")
        encoded = urlencode({**self.values, **changes})
        if self.method == "GET":
            return Call(method="GET", path=path, query=encoded)
        headers = {"content-type": "application/x-www-form-urlencoded"}
        return Call(method="POST", path=path, query=query, headers=headers, body=encoded.encode())


class _Forms(HTMLParser):
    """The forms of a page, with what stands in their fields."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[_Form] = []
        self._open = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(_Form(method=found.get("method", "get").upper(), actions=[found["action"]], values={}))
            self._open = True
        elif self._open and "formaction" in found:
            self.forms[-1].actions.append(found["formaction"])
        elif self._open and "name" in found and "checked" not in found and found.get("type") not in ("radio",):
            self.forms[-1].values.setdefault(found["name"], found.get("value", ""))
        elif self._open and "name" in found and "checked" in found:
            self.forms[-1].values[found["name"]] = found.get("value", "on")

    def handle_endtag(self, tag: str) -> None:
        self._open = self._open and tag != "form"
