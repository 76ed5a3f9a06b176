"""OpenAPI descriptions of routes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode
from typing_extensions import TypedDict  # pydantic reads typing's own from Python 3.12 on

from corral.api.request_headers import IDEMPOTENCY_KEY, IDEMPOTENCY_KEY_PATTERN, MAX_COST, USD_PATTERN

_SCHEMAS = "#/components/schemas/"

_NO_CONTENT = 204
_INVALID = "A field has the wrong type or is out of its range"
_STATUSES = {
    400: "The request is invalid or not JSON",
    401: "Missing or invalid API key",
    402: "Credit, a spend limit or the cost limit does not cover the maximum cost",
    403: "The API key lacks a scope or may not use the model",
    404: "Unknown model",
    405: "Not supported by the model or this server",
    408: "The body did not arrive in time",
    409: "The idempotency key belongs to another request or to a canceled run",
    410: "The text was removed after its retention time",
    413: "The body is too large",
    415: "Unsupported Content-Encoding",
    422: _INVALID,
    429: "Queue full or rate limit exceeded; see Retry-After",
    500: "The engine failed, or an internal error",
    501: "Not supported by this server",
    503: "The engine is starting, or the server is stopping; see Retry-After",
}

FOR_KEY = (401, 403, 500)
"""Statuses of every route that requires an API key."""

FOR_BODY = (400, 408, 413, 415)
"""Statuses of every route that reads a body, besides 422."""

FOR_RUN = (402, 404, 405, 409, 410, 429, 503)
"""Statuses of every route that runs a model."""

RUN_HEADERS: tuple[dict[str, Any], ...] = (
    {
        "name": IDEMPOTENCY_KEY,
        "in": "header",
        "description": "Requests with the same key and body run and are charged once.",
        "schema": {"type": "string", "pattern": IDEMPOTENCY_KEY_PATTERN},
    },
    {
        "name": MAX_COST,
        "in": "header",
        "description": "Reject the request if it could cost more than this many dollars.",
        "schema": {"type": "string", "pattern": USD_PATTERN},
    },
)


class Fault(TypedDict):
    """Validation error of one field."""

    loc: list[str | int]
    msg: str
    type: str


class Faults(TypedDict):
    """Body of a 422 response."""

    detail: list[Fault]


class Detail(TypedDict):
    """Body of an error response outside every door."""

    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialogue:
    """Request, response and event types of a route that can stream."""

    body: type
    answer: type
    event: type
    """Type of a stream event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """OpenAPI description of a route. Its types must be among those given to ``schemas``."""

    summary: str
    answer: type | None
    """Response type; None if it is not JSON."""
    error: type
    """Type of error responses, except 421 and, if ``invalid`` is set, 422."""
    statuses: tuple[int, ...]
    """Error statuses besides 421 and 422."""
    success: int = 200
    media_type: str = "application/json"
    """Media type of the response."""
    error_media_type: str = "application/json"
    """Media type of error responses except 421."""
    invalid: type = Faults
    """Type of the 422 response."""
    open: bool = False
    """Whether it needs no API key."""
    bodies: tuple[type, ...] = ()
    """Possible body types; empty means no body."""
    streams: bool = False
    """Whether the response may be server-sent events."""
    form: bool = False
    """Whether the body may be multipart instead of JSON."""
    form_only: bool = False
    """Whether the body must be multipart."""
    parameters: tuple[Mapping[str, Any], ...] = ()
    descriptions: Mapping[int, str] = field(default_factory=dict[int, str])
    """Of statuses that mean something else here than in ``_STATUSES``."""

    def as_openapi(self) -> dict[str, Any]:
        """Build FastAPI's ``openapi_extra``."""
        content = {self.media_type: {} if self.answer is None else {"schema": _reference(self.answer)}}
        if self.streams:
            content["text/event-stream"] = {}  # a schema would be that of one event, of which there are several shapes
        responses: dict[str, Any] = {str(self.success): {"description": "The answer", "content": content}}
        if self.success == _NO_CONTENT:
            responses = {str(self.success): {"description": "Done"}}
        for status in sorted(self.statuses):
            description = self.descriptions.get(status, _STATUSES[status])
            responses[str(status)] = _answer(description, self.error, self.error_media_type)
        responses["421"] = _answer("The Host header names no host of this server", Detail)
        extra: dict[str, Any] = {"parameters": list(self.parameters), "responses": responses}
        if not self.open:
            extra["security"] = [{"key": []}]
        if self.bodies:
            responses["422"] = _answer(_INVALID, self.invalid, self.error_media_type)
            options = [_reference(body) for body in self.bodies]
            schema = options[0] if len(options) == 1 else {"anyOf": options}
            form = ("multipart/form-data",) if self.form or self.form_only else ()
            kinds = form if self.form_only else ("application/json", *form)
            extra["requestBody"] = {"required": True, "content": {kind: {"schema": schema} for kind in kinds}}
        return extra


def schemas(types: Iterable[type]) -> dict[str, Any]:
    """JSON Schemas of *types* and the types that they refer to, by name."""
    adapters: list[tuple[type, JsonSchemaMode, TypeAdapter[Any]]] = [
        (kind, "validation", TypeAdapter(kind)) for kind in (*types, Faults, Detail)
    ]
    _, document = TypeAdapter.json_schemas(adapters, ref_template=_SCHEMAS + "{model}")
    return document["$defs"]


def _reference(kind: type) -> dict[str, str]:
    return {"$ref": _SCHEMAS + kind.__name__}


def _answer(description: str, kind: type, media_type: str = "application/json") -> dict[str, Any]:
    return {"description": description, "content": {media_type: {"schema": _reference(kind)}}}
