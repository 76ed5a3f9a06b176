"""Validate the body of a create request, except its ``input``."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from corral.api.doors.replicate.faults import Fault, invalid
from corral.api.doors.replicate.inputs import json_type
from corral.core.prediction import Webhook, WebhookEvent
from corral.service.webhooks.webhooks import DEFAULT_EVENTS

MAX_URL_CHARS: Final = 2048
_COMMON: Final = frozenset({"input", "stream", "webhook", "webhook_completed", "webhook_events_filter"})
_EVENTS: Final = tuple(event.value for event in WebhookEvent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """Body of a create request, without the input."""

    version: str | None
    input: Any
    webhook: Webhook | None
    echo: Mapping[str, Any]
    """Fields that the prediction object repeats."""


def read_body(document: object, *, versioned: bool) -> Body:
    """Validate the body; *versioned* if the body names its model by ``version``.

    Raises:
        InvalidInput: with every fault.
    """
    if not isinstance(document, dict):
        raise invalid([_wrong_type("", "object", document)])
    body = cast("dict[str, Any]", document)
    faults = list(_faults(body, versioned=versioned))
    if faults:
        raise invalid(faults)
    given = {name: body[name] for name in _COMMON - {"input", "stream"} if body.get(name) is not None}
    return Body(version=body.get("version"), input=body["input"], webhook=_webhook(given), echo=given)


def _webhook(given: Mapping[str, Any]) -> Webhook | None:
    if "webhook" in given:
        events = given.get("webhook_events_filter")
        return Webhook(
            url=given["webhook"], events=DEFAULT_EVENTS if not events else frozenset(map(WebhookEvent, events))
        )
    if "webhook_completed" in given:
        return Webhook(url=given["webhook_completed"], events=frozenset({WebhookEvent.COMPLETED}))
    return None


def _faults(body: Mapping[str, Any], *, versioned: bool) -> Iterator[Fault]:
    required = ("version", "input") if versioned else ("input",)
    for name in required:
        if body.get(name) is None:
            yield Fault(type="required", field="", description=f"{name} is required")
    for name in body.keys() - _COMMON - set(required):
        description = f"Additional property {_short(name)} is not allowed"
        yield Fault(type="additional_property_not_allowed", field="", description=description)
    if versioned and not isinstance(body.get("version"), str | None):
        yield _wrong_type("version", "string", body["version"])
    if not isinstance(body.get("stream"), bool | None):
        yield _wrong_type("stream", "boolean", body["stream"])
    yield from _webhook_faults(body)


def _webhook_faults(body: Mapping[str, Any]) -> Iterator[Fault]:
    for name in ("webhook", "webhook_completed"):
        url = body.get(name)
        if not isinstance(url, str | None):
            yield _wrong_type(name, "string", url)
        elif url is not None and not (
            url[:8].lower().startswith(("https://", "http://")) and len(url) <= MAX_URL_CHARS
        ):
            yield Fault(type="format", field=name, description="Does not match format 'uri'")
    if None not in (body.get("webhook"), body.get("webhook_completed")):
        description = "Must not be sent together with webhook"
        yield Fault(type="not", field="webhook_completed", description=description)
    events: Any = body.get("webhook_events_filter")
    if not isinstance(events, list | None):
        yield _wrong_type("webhook_events_filter", "array", events)
    elif any(event not in _EVENTS for event in cast("list[Any] | None", events) or ()):
        description = "Each must be one of the following: " + ", ".join(f'"{event}"' for event in _EVENTS)
        yield Fault(type="enum", field="webhook_events_filter", description=description)


def _short(name: str) -> str:
    return name if len(name) <= 64 else name[:64] + "…"


def _wrong_type(where: str, expected: str, value: object) -> Fault:
    description = f"Invalid type. Expected: {expected}, given: {json_type(value)}"
    return Fault(type="invalid_type", field=where, description=description)
