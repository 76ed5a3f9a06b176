"""Routes of the OpenAI API, under ``/v1`` and, as on DeepInfra, under ``/v1/openai``."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from decimal import Decimal
from typing import Any, Final, cast

import orjson
from fastapi import APIRouter
from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError
from starlette.requests import Request
from starlette.responses import Response

from corral.api.addresses import model_in_path
from corral.api.auth import KEY_HEADER
from corral.api.body import read_document
from corral.api.dependencies import Dependencies
from corral.api.disconnect import while_connected
from corral.api.door import Door
from corral.api.doors.openai import operations
from corral.api.doors.openai.answers import from_chat, from_completion, from_estimate, from_model, model_list
from corral.api.doors.openai.errors import ToolCallingUnsupported, from_error, from_faults
from corral.api.doors.openai.names import find_model
from corral.api.doors.openai.stream import AnswerStream, ChatWords, CompletionWords, Words
from corral.api.doors.openai.translate import chat_to_core, completion_to_core
from corral.api.doors.openai.wire import ChatCompletionRequest, CompletionRequest, SharedRequest
from corral.api.request_headers import nusd, read_idempotency, read_max_cost
from corral.api.run_headers import run_headers, weights_header
from corral.api.sse import EventStream
from corral.core.accounts import Scope
from corral.core.caller import Caller
from corral.core.errors import Unsupported
from corral.core.generation import GenerationRequest, GenerationResult, collect
from corral.service.ports import Ask, PredictionEvents

DOOR: Final = "openai"
_PREFIXES: Final = ("/v1", "/v1/openai")


def router(dependencies: Dependencies) -> APIRouter:
    """Build the router."""
    router, catalog = APIRouter(tags=["openai"]), dependencies.predictions.catalog
    door = Door(
        keys=dependencies.keys,
        from_error=from_error,
        from_validation=from_faults,
        router=router,
        catalog=catalog,
        key_header=KEY_HEADER,
    )
    routes = _Routes(dependencies, door)
    run, read = (Scope.INFERENCE,), (Scope.INFERENCE, Scope.READ)
    door.route("POST", _under("/chat/completions"), routes.chat, scopes=run, operation=operations.CHAT)
    door.route("POST", _under("/completions"), routes.completion, scopes=run, operation=operations.COMPLETION)
    door.route("POST", ["/v1/estimate"], routes.estimate, scopes=run, operation=operations.ESTIMATE)
    door.route("GET", ["/v1/openai/models"], routes.models, scopes=read, operation=operations.MODELS)
    # ``:path``, because names are owner/name, and a name without owner gets the 404 of this API.
    door.route("GET", ["/v1/openai/models/{model:path}"], routes.model, scopes=read, operation=operations.MODEL)
    return door.router


class _Routes:
    """Handlers of the routes."""

    def __init__(self, dependencies: Dependencies, door: Door) -> None:
        self._dependencies = dependencies
        self._predictions = dependencies.predictions
        self._door = door

    async def chat(self, request: Request, caller: Caller) -> Response:
        """``POST /chat/completions``."""
        document = await read_document(request, limit_bytes=self._dependencies.body_limit_bytes)
        body = ChatCompletionRequest.model_validate(document)
        model = find_model(self._predictions.catalog, body.model)
        headers = weights_header(model)
        opening = self._open(request, caller, document, body, _chat(request, body, model.id))
        top_logprobs = (body.top_logprobs or 0) if body.logprobs else None
        if body.stream:
            return self._stream(opening, body, ChatWords(top_logprobs=top_logprobs), headers)
        run, result = await _finish(request, opening)
        answer = from_chat(run, body.model, result, top_logprobs=top_logprobs)
        return _json(answer, {**headers, **run_headers(run)})

    async def completion(self, request: Request, caller: Caller) -> Response:
        """``POST /completions``."""
        document = await read_document(request, limit_bytes=self._dependencies.body_limit_bytes)
        body = CompletionRequest.model_validate(document)
        model = find_model(self._predictions.catalog, body.model)
        headers = weights_header(model)
        opening = self._open(request, caller, document, body, completion_to_core(body, model=model.id))
        if body.stream:
            words = CompletionWords(choices=body.n or 1, top_logprobs=body.logprobs)
            return self._stream(opening, body, words, headers)
        run, result = await _finish(request, opening)
        answer = from_completion(run, body.model, result, top_logprobs=body.logprobs)
        return _json(answer, {**headers, **run_headers(run)})

    async def estimate(self, request: Request, caller: Caller) -> Response:
        """``POST /estimate``: takes the body of a completion if it has a prompt, else of a chat."""
        document = await read_document(request, limit_bytes=self._dependencies.body_limit_bytes)
        if isinstance(document, dict) and "prompt" in document:
            body = CompletionRequest.model_validate(document)
            model = find_model(self._predictions.catalog, body.model)
            asked = completion_to_core(body, model=model.id)
        else:
            body = ChatCompletionRequest.model_validate(document)
            model = find_model(self._predictions.catalog, body.model)
            asked = _chat(request, body, model.id)
        headers = weights_header(model)
        estimate = await self._predictions.estimate(Ask(caller=caller, door=DOOR, request=asked))
        return _json(from_estimate(body.model, estimate), headers)

    async def models(self, _request: Request, caller: Caller) -> Response:
        """``GET /models``."""
        return _json(model_list(self._predictions, caller, now_s=self._dependencies.clock()), {})

    async def model(self, request: Request, caller: Caller) -> Response:
        """``GET /models/{model}``."""
        found = self._predictions.catalog.get(model_in_path(request))
        caller.require_model(found.id)
        shown = from_model(found, found.price_at(self._dependencies.clock()), self._predictions.deployment_of(found))
        return _json(shown, weights_header(found))

    def _open(
        self, request: Request, caller: Caller, document: object, body: SharedRequest, asked: GenerationRequest
    ) -> AbstractAsyncContextManager[PredictionEvents]:
        max_cost = _one_max_cost(body.max_cost, read_max_cost(request))
        return self._predictions.open(
            Ask(
                caller=caller,
                door=DOOR,
                request=asked,
                idempotency=read_idempotency(request, route=type(body).__name__, document=document),
                max_cost_nusd=None if max_cost is None else nusd(max_cost),
                shown_input=_shown(document, type(body)),
            )
        )

    def _stream(
        self,
        opening: AbstractAsyncContextManager[PredictionEvents],
        body: SharedRequest,
        words: Words,
        headers: Mapping[str, str],
    ) -> Response:
        return EventStream(
            opening,
            lambda run: AnswerStream(run, body, words),
            refuse=self._door.refuse,
            headers=lambda run: {**headers, **run_headers(run)},
            ping_s=self._dependencies.ping_s,
        )


def _chat(request: Request, body: ChatCompletionRequest, model_id: str) -> GenerationRequest:
    """Translate a chat. Tools are refused with 405 on DeepInfra's paths and 400 on OpenAI's."""
    try:
        return chat_to_core(body, model=model_id)
    except ToolCallingUnsupported as error:
        if request.url.path.startswith(_PREFIXES[1]):
            raise
        raise Unsupported(str(error), param="tools") from None


async def _finish(
    request: Request, opening: AbstractAsyncContextManager[PredictionEvents]
) -> tuple[PredictionEvents, GenerationResult]:
    """Wait for the whole result; a disconnect of the client cancels the run."""
    async with while_connected(request.receive), opening as run:
        return run, await collect(event async for _, event in run.events())


def _one_max_cost(in_body: Decimal | None, in_header: Decimal | None) -> Decimal | None:
    if in_body is not None and in_header is not None and in_body != in_header:
        fault = PydanticCustomError("contradiction", "max_cost and the header corral-max-cost must not differ")
        details = InitErrorDetails(type=fault, loc=("max_cost",), input=None)
        raise ValidationError.from_exception_data("max_cost", [details])
    return in_header if in_body is None else in_body


def _shown(document: object, wire: type[SharedRequest]) -> dict[str, Any]:
    """Keep only known fields of the body, to store as the shown input."""
    given = cast("Mapping[str, Any]", document)  # validated as an object
    return {name: given[name] for name in wire.model_fields if name in given}


def _under(path: str) -> list[str]:
    return [prefix + path for prefix in _PREFIXES]


def _json(body: object, headers: Mapping[str, str]) -> Response:
    return Response(orjson.dumps(body), headers=dict(headers), media_type="application/json")
