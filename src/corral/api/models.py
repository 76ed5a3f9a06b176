"""``GET /v1/models`` and ``GET /v1/models/{owner}/{name}``, which OpenAI's and Replicate's APIs share.

One body has the fields of both: no name has two meanings. The doors do not know each other, so this module joins them.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from corral.api.addresses import model_in_path
from corral.api.auth import KEY_HEADER
from corral.api.dependencies import Dependencies
from corral.api.door import Door
from corral.api.doors.openai import answers as openai_answers
from corral.api.doors.openai import wire_answers as openai_wire
from corral.api.doors.replicate import wire as replicate_wire
from corral.api.doors.replicate.errors import MEDIA_TYPE
from corral.api.doors.replicate.routes import ELSEWHERE, ReplicateDoor
from corral.api.operation import FOR_KEY, Operation
from corral.api.run_headers import weights_header
from corral.api.unrouted import from_error_of_any
from corral.core.accounts import Scope
from corral.core.caller import Caller


class EveryModelList(openai_wire.ModelList, replicate_wire.ModelPage):
    """List of models: OpenAI's ``data`` and Replicate's ``results``."""


class EveryModel(openai_wire.Model, replicate_wire.ModelAnswer):
    """A model, with the fields of both APIs."""


class EveryError(openai_wire.ErrorAnswer, replicate_wire.ProblemAnswer):
    """Error response with the fields of both APIs."""


TYPES: Final = (EveryModelList, EveryModel, EveryError)
"""Types that the operations below refer to."""

MODELS: Final = Operation(
    summary="List the models",
    answer=EveryModelList,
    error=EveryError,
    error_media_type=MEDIA_TYPE,
    statuses=(*FOR_KEY, 422, 429),
    parameters=tuple(
        {"name": name, "in": "query", "schema": {"type": "string"}} for name in ("cursor", "sort_by", "sort_direction")
    ),
)
MODEL: Final = Operation(
    summary="Describe a model",
    answer=EveryModel,
    error=EveryError,
    error_media_type=MEDIA_TYPE,
    statuses=(*FOR_KEY, 404, 429),
    parameters=({"name": "model", "in": "path", "required": True, "schema": {"type": "string"}},),
)


def router(dependencies: Dependencies, replicate: ReplicateDoor) -> APIRouter:
    """Build the router of both routes; they count against Replicate's rate limits."""
    catalog = dependencies.predictions.catalog

    async def models(request: Request, caller: Caller) -> Response:
        return _json(
            openai_answers.model_list(dependencies.predictions, caller, now_s=dependencies.clock()),
            await replicate.models.listing(request, caller),
        )

    async def model(request: Request, caller: Caller) -> Response:
        found = catalog.get(model_in_path(request))
        caller.require_model(found.id)
        deployment = dependencies.predictions.deployment_of(found)
        in_openai = openai_answers.from_model(found, found.price_at(dependencies.clock()), deployment)
        in_replicate = await replicate.models.one(request, found)
        return _json(in_openai, in_replicate, headers=weights_header(found))

    door = Door(
        keys=dependencies.keys,
        from_error=from_error_of_any,
        router=APIRouter(tags=["models"]),
        catalog=catalog,
        key_header=KEY_HEADER,
    )
    undocumented = replace(door, router=APIRouter(include_in_schema=False))
    read = (Scope.INFERENCE, Scope.READ)
    listing, describing = replicate.count(models, door), replicate.count(model, door)
    door.route("GET", ["/v1/models"], listing, scopes=read, operation=MODELS)
    # ``:path``: names are owner/name, and a name without owner deserves a 404 in both doors' words.
    door.route("GET", ["/v1/models/{model:path}"], describing, scopes=read, operation=MODEL)
    # An OpenAI client whose base URL lacks ``/v1`` would take Replicate's list for one without models.
    undocumented.route("GET", [prefix + "/models" for prefix in ELSEWHERE], listing, scopes=read, operation=MODELS)
    both = APIRouter()
    both.include_router(door.router)
    both.include_router(undocumented.router)
    return both


def _json(*bodies: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    merged = {name: value for body in bodies for name, value in body.items()}
    return Response(orjson.dumps(merged), headers=dict(headers or {}), media_type="application/json")
