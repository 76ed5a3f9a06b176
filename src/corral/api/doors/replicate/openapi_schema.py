"""The ``openapi_schema`` of a version: the document that Cog generates, with the model's own inputs.

Clients read of it that ``Output`` is an iterator to be joined, and build forms from ``Input`` by ``x-order``.
"""

from collections.abc import Iterable
from typing import Any, Final

from corral.api.inputs import InputField, bounds

_STRING: Final = {"type": "string"}
_OBJECT: Final = {"type": "object"}


def openapi_schema(fields: Iterable[InputField]) -> dict[str, Any]:
    """Build the document for a model with these inputs; hidden ones are left out."""
    shown = [field for field in fields if not field.hidden]
    return {
        "openapi": "3.0.2",
        "info": {"title": "Cog", "version": "0.1.0"},
        "paths": _PATHS,
        "components": {"schemas": {**_SCHEMAS, "Input": _input(shown)}},
    }


def _input(fields: list[InputField]) -> dict[str, Any]:
    return {
        "type": "object",
        "title": "Input",
        "required": [field.name for field in fields if field.required],
        "properties": {field.name: _property(field) for field in fields},
    }


def _property(field: InputField) -> dict[str, Any]:
    described: dict[str, Any] = {"type": field.type, "title": field.title, "x-order": field.order, **bounds(field)}
    if field.description:
        described["description"] = field.description
    if field.has_default:
        described["default"] = field.default
    if field.min_length is not None:
        described["minLength"] = field.min_length
    return described


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _content(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _operation(summary: str, answer: dict[str, Any], *, name: str, body: str | None = None) -> dict[str, Any]:
    responses: dict[str, Any] = {"200": {"description": "Successful Response", "content": _content(answer)}}
    operation: dict[str, Any] = {"summary": summary, "operationId": name, "responses": responses}
    if body is not None:
        operation["requestBody"] = {"content": _content(_reference(body))}
        description = "Validation Error"
        responses["422"] = {"description": description, "content": _content(_reference("HTTPValidationError"))}
    return operation


def _with_id(operation: dict[str, Any]) -> dict[str, Any]:
    parameter = {
        "in": "path",
        "name": "prediction_id",
        "required": True,
        "schema": {"title": "Prediction ID", **_STRING},
    }
    return {**operation, "parameters": [parameter]}


_PATHS: Final[dict[str, Any]] = {
    "/": {"get": _operation("Root", {"title": "Response Root  Get"}, name="root__get")},
    "/health-check": {"get": _operation("Healthcheck", {"title": "Response Healthcheck"}, name="healthcheck")},
    "/predictions": {
        "post": _operation("Predict", _reference("PredictionResponse"), name="predict", body="PredictionRequest")
    },
    "/predictions/{prediction_id}": {
        "put": _with_id(
            _operation(
                "Predict Idempotent",
                _reference("PredictionResponse"),
                name="predict_idempotent",
                body="PredictionRequest",
            )
        )
    },
    "/predictions/{prediction_id}/cancel": {
        "post": _with_id(_operation("Cancel", {"title": "Response Cancel"}, name="cancel"))
    },
    "/shutdown": {"post": _operation("Start Shutdown", {"title": "Response Start Shutdown"}, name="shutdown")},
}

_WEBHOOKS: Final = {
    "webhook": {"type": "string", "title": "Webhook", "format": "uri", "maxLength": 65536, "minLength": 1},
    "webhook_events_filter": {
        "type": "array",
        "items": _reference("WebhookEvent"),
        "default": ["start", "output", "logs", "completed"],
    },
}
_TIME: Final = {"type": "string", "format": "date-time"}

_SCHEMAS: Final[dict[str, Any]] = {
    "Output": {
        "type": "array",
        "items": _STRING,
        "title": "Output",
        "x-cog-array-type": "iterator",
        "x-cog-array-display": "concatenate",
    },
    "Status": {
        "type": "string",
        "title": "Status",
        "description": "An enumeration.",
        "enum": ["starting", "processing", "succeeded", "canceled", "failed"],
    },
    "WebhookEvent": {
        "type": "string",
        "title": "WebhookEvent",
        "description": "An enumeration.",
        "enum": ["start", "output", "logs", "completed"],
    },
    "PredictionRequest": {
        "type": "object",
        "title": "PredictionRequest",
        "properties": {"id": {"title": "Id", **_STRING}, "input": _reference("Input"), **_WEBHOOKS},
    },
    "PredictionResponse": {
        "type": "object",
        "title": "PredictionResponse",
        "properties": {
            "id": {"title": "Id", **_STRING},
            "input": _reference("Input"),
            "output": _reference("Output"),
            "logs": {"title": "Logs", "default": "", **_STRING},
            "error": {"title": "Error", **_STRING},
            "status": _reference("Status"),
            "version": {"title": "Version", **_STRING},
            "metrics": {"title": "Metrics", **_OBJECT},
            "created_at": {"title": "Created At", **_TIME},
            "started_at": {"title": "Started At", **_TIME},
            "completed_at": {"title": "Completed At", **_TIME},
        },
    },
    "ValidationError": {
        "type": "object",
        "title": "ValidationError",
        "required": ["loc", "msg", "type"],
        "properties": {
            "loc": {"type": "array", "title": "Location", "items": {"anyOf": [_STRING, {"type": "integer"}]}},
            "msg": {"title": "Message", **_STRING},
            "type": {"title": "Error Type", **_STRING},
        },
    },
    "HTTPValidationError": {
        "type": "object",
        "title": "HTTPValidationError",
        "properties": {"detail": {"type": "array", "title": "Detail", "items": _reference("ValidationError")}},
    },
}
