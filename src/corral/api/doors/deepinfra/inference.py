"""Inference routes: read the body as JSON or form, run the model, answer whole, streamed or by webhook."""

import math
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, cast

import orjson
from starlette.requests import Request
from starlette.responses import Response

from corral.api.body import read_body, read_document
from corral.api.dependencies import Dependencies
from corral.api.disconnect import while_connected
from corral.api.door import Door
from corral.api.doors.deepinfra.answers import from_queued, from_result
from corral.api.doors.deepinfra.coercion import from_parts
from corral.api.doors.deepinfra.deploys import deployed
from corral.api.doors.deepinfra.input_table import INPUTS
from corral.api.doors.deepinfra.stream import TokenStream
from corral.api.doors.deepinfra.translate import to_core
from corral.api.doors.deepinfra.wire import InferenceInput, read_input
from corral.api.form import is_form, read_form
from corral.api.long_work import work_on_text
from corral.api.request_headers import nusd, read_idempotency, read_max_cost
from corral.api.run_headers import run_headers, weights_header
from corral.api.sse import EventStream
from corral.catalog.model import CatalogModel
from corral.core.caller import Caller
from corral.core.generation import collect
from corral.core.prediction import Webhook, WebhookEvent
from corral.service.ports import Ask, PredictionEvents

DOOR: Final = "deepinfra"
_NAMES: Final = frozenset(field.name for field in INPUTS.fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """A parsed inference request."""

    model: CatalogModel
    asked: InferenceInput
    ask: Ask
    before: str
    """Prefix of each text: the prompt, or nothing."""


class Inference:
    """Handlers of the inference routes."""

    def __init__(self, dependencies: Dependencies, door: Door) -> None:
        self._dependencies = dependencies
        self._predictions = dependencies.predictions
        self._door = door

    async def of_model(self, request: Request, caller: Caller) -> Response:
        """``POST /v1/inference/{owner}/{model}``, with or without ``?version=``."""
        model = self._predictions.catalog.get("{owner}/{model}".format(**request.path_params))
        if version := request.query_params.get("version"):
            model.find_version(version)
        return await self._infer(request, caller, model)

    async def of_deploy(self, request: Request, caller: Caller) -> Response:
        """``POST /v1/inference/deploy/{deploy_id}``."""
        model = deployed(self._predictions.catalog, request.path_params["deploy_id"])
        return await self._infer(request, caller, model)

    async def _infer(self, request: Request, caller: Caller, model: CatalogModel) -> Response:
        began_s = self._dependencies.clock()
        call = await self._read(request, caller, model)
        opening = self._predictions.open(call.ask)
        if call.asked.stream:
            return self._stream(opening, call)
        if call.ask.webhook is not None:
            async with opening as run:
                return _json(from_queued(run.id), _headers(model, run))
        async with while_connected(request.receive), opening as run:
            result = await collect(event async for _, event in run.events())
        # Rounded up, so that no answer has a runtime of 0.
        runtime_ms = max(1, math.ceil(1000 * (self._dependencies.clock() - began_s)))
        return _json(from_result(run, result, before=call.before, runtime_ms=runtime_ms), _headers(model, run))

    async def _read(self, request: Request, caller: Caller, model: CatalogModel) -> _Call:
        document = await _read_document(request, limit_bytes=self._dependencies.body_limit_bytes)
        terms = self._dependencies.native
        fields = INPUTS.for_model(model, overrides={"repetition_penalty": terms.repetition_penalty})
        asked = read_input(document, fields)
        max_cost = read_max_cost(request)
        before = asked.input if terms.full_text else ""
        ask = Ask(
            caller=caller,
            door=DOOR,
            request=to_core(asked, model=model.id),
            background=asked.webhook is not None,
            idempotency=read_idempotency(request, route=f"inference {model.id}", document=document),
            max_cost_nusd=None if max_cost is None else nusd(max_cost),
            shown_input=_shown(document),
            webhook=None
            if asked.webhook is None
            else Webhook(url=asked.webhook, events=frozenset({WebhookEvent.COMPLETED})),
            notes={"full_text": terms.full_text},
        )
        return _Call(model=model, asked=asked, ask=ask, before=before)

    def _stream(self, opening: AbstractAsyncContextManager[PredictionEvents], call: _Call) -> Response:
        return EventStream(
            opening,
            lambda run: TokenStream(run, call.ask.request, before=call.before, terms=self._dependencies.native),
            refuse=self._door.refuse,
            headers=lambda run: _headers(call.model, run),
            ping_s=self._dependencies.ping_s,
        )


async def _read_document(request: Request, *, limit_bytes: int) -> object:
    """Read the body: as a form if ``Content-Type`` is multipart, as JSON otherwise."""
    content_type = request.headers.get("content-type", "")
    if not is_form(content_type):
        return await read_document(request, limit_bytes=limit_bytes)
    body = await read_body(request, limit_bytes=limit_bytes)
    parts = await read_form(body, content_type)
    return await work_on_text(partial(from_parts, parts), chars=len(body))


def _shown(document: object) -> dict[str, Any]:
    """Keep only known fields of the body, to store as the shown input."""
    given = cast("Mapping[str, Any]", document)  # validated as an object
    return {name: given[name] for name in given if name in _NAMES}


def _headers(model: CatalogModel, run: PredictionEvents) -> dict[str, str]:
    return {**weights_header(model), **run_headers(run)}


def _json(body: object, headers: Mapping[str, str]) -> Response:
    return Response(orjson.dumps(body), headers=dict(headers), media_type="application/json")
