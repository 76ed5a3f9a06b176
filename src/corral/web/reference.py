"""API reference page, rendered from the OpenAPI document without a script."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from fastapi import FastAPI
from markupsafe import Markup
from starlette.responses import Response

from corral.web.pages import Pages, Visit
from corral.web.schema_words import default_of, in_words, type_anchor

_GROUPS: Final[Mapping[str, str]] = {
    "openai": "OpenAI",
    "replicate": "Replicate",
    "deepinfra": "DeepInfra",
    "models": "Models, for Replicate's and OpenAI's clients",
    "": "Server",
}
_FIRST_ERROR: Final = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """Parameter of an operation or property of a type."""

    name: str
    place: str
    """``path``, ``query`` or ``header``; empty for a property."""
    required: bool
    words: Markup
    default: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """Body: media type and description of its type."""

    media_type: str
    words: Markup


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Successful response."""

    status: str
    description: str
    contents: tuple[Content, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationView:
    """Operation: method and path."""

    method: str
    path: str
    summary: str
    open: bool
    """Whether it needs no API key."""
    parameters: tuple[Field, ...]
    bodies: tuple[Content, ...]
    answers: tuple[Answer, ...]
    errors: tuple[str, ...]
    """Error statuses; the group describes each once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Operations of one API."""

    id: str
    title: str
    operations: tuple[OperationView, ...]
    errors: tuple[tuple[str, str], ...]
    """Description of each error status."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeView:
    """Named type."""

    name: str
    anchor: str
    description: str
    fields: tuple[Field, ...]
    words: Markup
    """Description of a type without properties."""


class ReferencePage:
    """``GET /reference``."""

    def __init__(self, pages: Pages, app: FastAPI) -> None:
        """Add the route; *app* has the documented routes."""
        self._pages = pages
        self._app = app
        self._values: Mapping[str, Any] | None = None
        pages.get("/reference", self.show, signed_in=False)

    async def show(self, visit: Visit) -> Response:
        """Render the page; the document is read once."""
        if self._values is None:
            document = self._app.openapi()
            self._values = {"groups": groups(document), "types": types(document)}
        base_url = self._pages.dependencies.base_url(visit.request)
        return self._pages.draw(visit, "reference.html", {**self._values, "base_url": base_url})


def groups(document: Mapping[str, Any]) -> tuple[Group, ...]:
    """Group operations by API, in the order of the document."""
    found: dict[str, list[tuple[OperationView, Mapping[str, Any]]]] = {tag: [] for tag in _GROUPS}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            tag = next(iter(operation.get("tags", ())), "")
            found.setdefault(tag, []).append((_operation(method, path, operation), operation))
    return tuple(
        Group(
            id=f"group-{tag or 'server'}",
            title=_GROUPS.get(tag, tag),
            operations=tuple(view for view, _ in operations),
            errors=_meanings(operation for _, operation in operations),
        )
        for tag, operations in found.items()
        if operations
    )


def types(document: Mapping[str, Any]) -> tuple[TypeView, ...]:
    """Named types of the document, by name."""
    return tuple(_type(name, schema) for name, schema in sorted(document["components"]["schemas"].items()))


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> OperationView:
    responses: Mapping[str, Any] = operation["responses"]
    return OperationView(
        method=method.upper(),
        path=path,
        summary=operation["summary"],
        open="security" not in operation,
        parameters=tuple(map(_parameter, operation.get("parameters", ()))),
        bodies=_contents(operation.get("requestBody", {})),
        answers=tuple(
            Answer(status=status, description=answer["description"], contents=_contents(answer))
            for status, answer in responses.items()
            if not _is_error(status)
        ),
        errors=tuple(status for status in responses if _is_error(status)),
    )


def _meanings(operations: Iterable[Mapping[str, Any]]) -> tuple[tuple[str, str], ...]:
    """Descriptions of each error status of *operations*."""
    found: dict[str, dict[str, None]] = {}
    for operation in operations:
        for status, answer in operation["responses"].items():
            if _is_error(status):
                found.setdefault(status, {})[answer["description"]] = None
    return tuple((status, ". ".join(texts)) for status, texts in sorted(found.items()))


def _is_error(status: str) -> bool:
    return not status.isdigit() or int(status) >= _FIRST_ERROR


def _contents(body: Mapping[str, Any]) -> tuple[Content, ...]:
    return tuple(
        Content(media_type=media_type, words=in_words(content["schema"]) if content.get("schema") else Markup(""))
        for media_type, content in body.get("content", {}).items()
    )


def _parameter(parameter: Mapping[str, Any]) -> Field:
    schema = parameter["schema"]
    return Field(
        name=parameter["name"],
        place=parameter["in"],
        required=parameter.get("required", False),
        words=in_words(schema),
        default=default_of(schema),
        description=parameter.get("description", ""),
    )


def _type(name: str, schema: Mapping[str, Any]) -> TypeView:
    required = schema.get("required", ())
    fields = tuple(
        Field(
            name=each,
            place="",
            required=each in required,
            words=in_words(of_field),
            default=default_of(of_field),
            description=of_field.get("description", ""),
        )
        for each, of_field in schema.get("properties", {}).items()
    )
    return TypeView(
        name=name,
        anchor=type_anchor(name),
        description=schema.get("description", "").replace("``", "").strip(),
        fields=fields,
        words=Markup("") if fields else in_words(schema),
    )
