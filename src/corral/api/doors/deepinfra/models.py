"""Read-only routes of models, versions and deploys."""

from collections.abc import Mapping
from typing import Final

import orjson
from starlette.requests import Request
from starlette.responses import Response

from corral.api.dependencies import Dependencies
from corral.api.doors.deepinfra import describe
from corral.api.doors.deepinfra.deploys import deployed, from_model, read_statuses
from corral.api.doors.deepinfra.errors import NotOffered
from corral.api.doors.deepinfra.input_table import INPUTS
from corral.api.doors.deepinfra.wire_answers import CliVersion
from corral.api.inputs import InputField
from corral.api.operation import Dialogue
from corral.api.run_headers import weights_header
from corral.catalog.model import CatalogModel
from corral.core.caller import Caller

DEEPCTL: Final[CliVersion] = {"min": "0.0.0", "update": "0.0.0", "latest": "0.6.0"}
"""Every version of deepctl is supported; 0.6.0 was its last."""


class Models:
    """Handlers of the model and deploy routes."""

    def __init__(self, dependencies: Dependencies, variants: Mapping[str, Dialogue]) -> None:
        """*variants* are the routes beside inference whose schemas are served."""
        self._dependencies = dependencies
        self._predictions = dependencies.predictions
        self._variants = variants

    async def listed(self, request: Request) -> Response:
        """``GET /models/list``: every served model."""
        base_url, now_s = self._dependencies.base_url(request), self._dependencies.clock()
        served = self._predictions.catalog.models()
        return to_json([describe.listed(model, model.price_at(now_s), base_url=base_url) for model in served])

    async def none(self, _request: Request, _caller: Caller) -> Response:
        """``GET /models/private/list`` and others: always an empty list, for no model is listed apart."""
        return to_json([])

    async def featured(self, _request: Request) -> Response:
        """``GET /models/featured``: always empty."""
        return to_json([])

    async def info(self, request: Request) -> Response:
        """``GET /models/{owner}/{model}``, with or without ``?version=``."""
        model = self._model(request)
        wanted = request.query_params.get("version") or model.version
        answer = describe.described(
            model,
            model.price_at(self._dependencies.clock()),
            self._fields(model),
            version=model.find_version(wanted).short_id,
            base_url=self._dependencies.base_url(request),
            full_text=self._dependencies.native.full_text,
            variants=self._variants,
        )
        return to_json(answer, weights_header(model))

    async def versions(self, request: Request) -> Response:
        """``GET /models/{owner}/{model}/versions``."""
        return to_json(describe.versions(self._model(request)))

    async def schema(self, request: Request) -> Response:
        """``GET /models/{owner}/{model}/schema/{variant}``."""
        fields = self._fields(self._model(request))
        return to_json(describe.schema(request.path_params["variant"], fields, self._variants))

    async def deploys(self, request: Request, caller: Caller) -> Response:
        """``GET /deploy/list``: the deploys of the models that the key may use, filtered by ``?status=a,b``."""
        wanted = read_statuses(request.query_params.getlist("status"))
        served = [model for model in self._predictions.catalog.models() if caller.may_use(model.id)]
        deploys = [from_model(model, self._predictions.deployment_of(model), caller) for model in served]
        return to_json([deploy for deploy in deploys if deploy["status"] in wanted])

    async def deploy(self, request: Request, caller: Caller) -> Response:
        """``GET /deploy/{deploy_id}``."""
        model = deployed(self._predictions.catalog, request.path_params["deploy_id"])
        caller.require_model(model.id)
        return to_json(from_model(model, self._predictions.deployment_of(model), caller))

    async def deepctl(self, _request: Request) -> Response:
        """``GET /cli/version``."""
        return to_json(DEEPCTL)

    async def fixed(self, _request: Request, _caller: Caller) -> Response:
        """Refuse routes that would change a model or a deploy."""
        raise NotOffered("Models and deploys of this server are its operator's: see 'corral serve'.")

    def _model(self, request: Request) -> CatalogModel:
        return self._predictions.catalog.get("{owner}/{model}".format(**request.path_params))

    def _fields(self, model: CatalogModel) -> tuple[InputField, ...]:
        return INPUTS.for_model(model, overrides={"repetition_penalty": self._dependencies.native.repetition_penalty})


def to_json(body: object, headers: Mapping[str, str] | None = None) -> Response:
    """Build a JSON response with status 200."""
    return Response(orjson.dumps(body), headers=dict(headers or {}), media_type="application/json")
