"""``GET /v1/models`` and ``GET /v1/models/{owner}/{name}``: OpenAI's and Replicate's clients both ask there.

One body has what either reads, for no name means two things. The doors do not know each other, so they meet here.
"""

from collections.abc import Mapping
from typing import Any, Final

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from corral.api.auth import KEY_HEADER
from corral.api.door import Door
from corral.api.doors.openai import answers as openai_answers
from corral.api.doors.openai import refusals as openai_refusals
from corral.api.doors.openai import wire_answers as openai_wire
from corral.api.doors.replicate import refusals as replicate_refusals
from corral.api.doors.replicate import wire as replicate_wire
from corral.api.doors.replicate.routes import ReplicateDoor
from corral.api.operation import FOR_KEY, Operation
from corral.api.problems import Problem
from corral.api.run_headers import weights_header
from corral.api.site import Site
from corral.core.accounts import Scope
from corral.core.caller import Caller
from corral.core.errors import CorralError


class EveryModelList(openai_wire.ModelList, replicate_wire.ModelPage):
    """The served models, in OpenAI's ``data`` and in Replicate's ``results``."""


class EveryModel(openai_wire.Model, replicate_wire.ModelAnswer):
    """A model, as both describe it."""


class EveryError(openai_wire.ErrorAnswer, replicate_wire.ProblemAnswer):
    """An error, in both doors' words."""


TYPES: Final = (EveryModelList, EveryModel, EveryError)
"""What the operations below name."""

MODELS: Final = Operation(
    summary="List the models",
    answer=EveryModelList,
    error=EveryError,
    statuses=(*FOR_KEY, 422, 429),
    parameters=tuple(
        {"name": name, "in": "query", "schema": {"type": "string"}} for name in ("cursor", "sort_by", "sort_direction")
    ),
)
MODEL: Final = Operation(
    summary="Describe a model",
    answer=EveryModel,
    error=EveryError,
    statuses=(*FOR_KEY, 404, 429),
    parameters=({"name": "model", "in": "path", "required": True, "schema": {"type": "string"}},),
)


def router(site: Site, replicate: ReplicateDoor) -> APIRouter:
    """Both routes, which count against Replicate's rates as its others do."""
    catalog = site.predictions.catalog

    async def models(request: Request, caller: Caller) -> Response:
        return _json(
            openai_answers.model_list(catalog, caller, now_s=site.clock()),
            await replicate.models.listing(request, caller),
        )

    async def model(request: Request, caller: Caller) -> Response:
        found = catalog.get(request.path_params["model"])
        caller.require_model(found.id)
        in_openai = openai_answers.from_model(found, found.price_at(site.clock()))
        in_replicate = await replicate.models.one(request, found)
        return _json(in_openai, in_replicate, headers=weights_header(found))

    door = Door(keys=site.keys, from_error=_from_error, router=APIRouter(tags=["models"]), key_header=KEY_HEADER)
    read = (Scope.INFERENCE, Scope.READ)
    for handler, path, operation in ((models, "/v1/models", MODELS), (model, "/v1/models/{model:path}", MODEL)):
        # ``:path``: names are owner/name, and a name without owner deserves a 404 in both doors' words.
        door.route("GET", [path], replicate.count(handler, door), scopes=read, operation=operation)
    return door.router


def _from_error(error: CorralError) -> Problem:
    in_openai, in_replicate = openai_refusals.from_error(error), replicate_refusals.from_error(error)
    status = in_replicate.status
    return Problem(
        status=status,
        body={**in_openai.body, **in_replicate.body},
        headers={**in_openai.headers, **in_replicate.headers},
    )


def _json(*bodies: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    merged = {name: value for body in bodies for name, value in body.items()}
    return Response(orjson.dumps(merged), headers=dict(headers or {}), media_type="application/json")
