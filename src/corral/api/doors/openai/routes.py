"""The routes of this door, under ``/v1`` and, as DeepInfra has them, under ``/v1/openai``."""

import secrets
from collections.abc import Callable

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from corral.api.auth import KeyRing
from corral.api.body import read_json
from corral.api.disconnect import while_connected
from corral.api.door import Door
from corral.api.doors.openai.stream import ChatStream
from corral.api.doors.openai.translate import from_error, from_model, from_result, to_core, weights_header
from corral.api.doors.openai.wire import ChatCompletionRequest, StreamOptions
from corral.api.sse import EventStream
from corral.core.caller import Caller
from corral.core.generation import collect
from corral.service.generate import Generation

_PREFIXES = ("/v1", "/v1/openai")


def router(generation: Generation, keys: KeyRing, *, clock: Callable[[], float], ping_s: float) -> APIRouter:
    """This door, ready to be included.

    Args:
        generation: what answers.
        keys: who may enter.
        clock: Unix time in seconds.
        ping_s: see EventStream.
    """
    door = Door(keys=keys, from_error=from_error, router=APIRouter(tags=["openai"]))

    async def chat(request: Request, _caller: Caller) -> Response:
        body = await read_json(request, ChatCompletionRequest)
        headers = weights_header(generation.catalog.get(body.model))
        run = generation.open(to_core(body))
        completion_id = f"chatcmpl-{secrets.token_hex(16)}"
        created = int(clock())
        if body.stream:
            options = body.stream_options or StreamOptions()
            stream = ChatStream(
                completion_id,
                created,
                body.model,
                include_usage=options.include_usage is not False,
                continuous_usage=options.continuous_usage_stats is True,
            )
            return EventStream(run, stream, refuse=door.refuse, headers=headers, ping_s=ping_s)
        async with while_connected(request.receive), run as events:
            result = await collect(events)
        return _json(from_result(completion_id, created, body.model, result), headers)

    async def models(_request: Request, _caller: Caller) -> Response:
        return _json({"object": "list", "data": [from_model(model) for model in generation.catalog.models()]}, {})

    async def model(request: Request, _caller: Caller) -> Response:
        found = generation.catalog.get(request.path_params["model"])
        return _json(from_model(found), weights_header(found))

    chat_paths = [f"{prefix}/chat/completions" for prefix in _PREFIXES]
    door.route("POST", chat_paths, chat, summary="Answer a conversation", body=ChatCompletionRequest)
    door.route("GET", [f"{prefix}/models" for prefix in _PREFIXES], models, summary="List the models")
    # ``:path``: names are owner/name, and a name without owner deserves this door's 404.
    door.route("GET", [f"{prefix}/models/{{model:path}}" for prefix in _PREFIXES], model, summary="Describe a model")
    return door.router


def _json(body: object, headers: dict[str, str]) -> Response:
    return Response(orjson.dumps(body), headers=headers, media_type="application/json")
