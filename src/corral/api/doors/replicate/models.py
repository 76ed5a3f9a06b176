"""Routes of models, versions, search, collections, deployments, hardware and the account."""

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from corral.api.body import read_body
from corral.api.dependencies import Dependencies
from corral.api.doors.replicate.faults import Fault, NotHere, NotOffered, invalid
from corral.api.doors.replicate.model_answers import (
    HARDWARE,
    ModelAnswers,
    account_answer,
    deployment_answer,
    version_answer,
)
from corral.api.doors.replicate.pages import address, after_offset, page, read_offset
from corral.api.doors.replicate.predictions import as_json, named
from corral.api.doors.replicate.wire import ModelAnswer
from corral.api.json_document import NotJson, decode_utf8, parse_json
from corral.api.run_headers import weights_header
from corral.catalog.model import CatalogModel
from corral.core.caller import Caller

PAGE_MODELS: Final = 25
MAX_FOUND: Final = 50
_FOUND: Final = 20
_SORT_BY: Final = ("model_created_at", "latest_version_created_at")
_DIRECTIONS: Final = ("asc", "desc")


class ModelRoutes:
    """Handlers of the routes."""

    def __init__(self, dependencies: Dependencies) -> None:
        self._dependencies = dependencies
        self._catalog = dependencies.predictions.catalog

    async def models(self, request: Request, caller: Caller) -> Response:
        """``GET /models``."""
        return as_json(await self.listing(request, caller))

    async def listing(self, request: Request, caller: Caller) -> dict[str, Any]:
        """Build the body of ``GET /models``."""
        asked = dict(request.query_params)
        cursor = asked.pop("cursor", None)
        start = 0 if cursor is None else read_offset(cursor)
        models = self._sorted(self._visible(caller), asked)
        following = None
        if len(models) > start + PAGE_MODELS:
            kept = {name: asked[name] for name in ("sort_by", "sort_direction") if name in asked}
            url = f"{self._dependencies.base_url(request)}/v1/models"
            following = address(url, after_offset(start + PAGE_MODELS), kept)
        answers = await self._answers(request)
        return page([answers.model(model) for model in models[start : start + PAGE_MODELS]], following=following)

    async def model(self, request: Request, caller: Caller) -> Response:
        """``GET /models/{owner}/{name}``."""
        model = self._model(request, caller)
        return as_json(await self.one(request, model), weights_header(model))

    async def one(self, request: Request, model: CatalogModel) -> ModelAnswer:
        """Build the body of ``GET /models/{owner}/{name}``."""
        return (await self._answers(request)).model(model)

    async def query(self, request: Request, caller: Caller) -> Response:
        """``QUERY /models``: the body is the search text; Replicate's JavaScript client sends it as a JSON string."""
        body = await read_body(request, limit_bytes=self._dependencies.body_limit_bytes)
        text = decode_utf8(body, what="The request body").strip()
        if len(text) > 1 and text.startswith('"') and text.endswith('"'):
            text = _unquoted(text)
        answers = await self._answers(request)
        found = [model for model in self._catalog.search(text) if caller.may_use(model.id)]
        return as_json(page([answers.model(model) for model in found]))

    async def search(self, request: Request, caller: Caller) -> Response:
        """``GET /search``."""
        text, limit = request.query_params.get("query", ""), request.query_params.get("limit", str(_FOUND))
        if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= MAX_FOUND):
            raise invalid([Fault(type="invalid", field="limit", description=f"Must be from 1 to {MAX_FOUND}")])
        answers = await self._answers(request)
        found = [model for model in self._catalog.search(text) if caller.may_use(model.id)][: int(limit)]
        words = text.casefold().split()
        collections = [
            answers.collection(each)
            for each in self._catalog.collections()
            if all(word in f"{each.slug} {each.name} {each.description}".casefold() for word in words)
        ]
        models = [answers.found(model, rank=rank) for rank, model in enumerate(found)]
        return as_json({"query": text, "models": models, "collections": collections, "pages": []})

    async def versions(self, request: Request, caller: Caller) -> Response:
        """``GET /models/{owner}/{name}/versions``."""
        model = self._model(request, caller)
        return as_json(page([version_answer(model, version) for version in model.versions]), weights_header(model))

    async def version(self, request: Request, caller: Caller) -> Response:
        """``GET /models/{owner}/{name}/versions/{version_id}``: the current version or an alias of it."""
        model = self._model(request, caller)
        found = model.find_version(request.path_params["version_id"])
        return as_json(version_answer(model, found), weights_header(model))

    async def readme(self, request: Request, caller: Caller) -> Response:
        """``GET /models/{owner}/{name}/readme``: Markdown, not JSON."""
        return Response(self._model(request, caller).page.readme, media_type="text/markdown")

    async def examples(self, request: Request, caller: Caller) -> Response:
        """``GET /models/{owner}/{name}/examples``."""
        model, answers = self._model(request, caller), await self._answers(request)
        return as_json(page([answers.example(model, example) for example in model.page.examples]))

    async def collections(self, request: Request, _caller: Caller) -> Response:
        """``GET /collections``."""
        answers = await self._answers(request)
        return as_json(page([answers.collection(each) for each in self._catalog.collections()]))

    async def collection(self, request: Request, caller: Caller) -> Response:
        """``GET /collections/{slug}``."""
        answers = await self._answers(request)
        for each in self._catalog.collections():
            if each.slug == request.path_params["slug"]:
                answer = answers.collection(each)
                answer["full_description"] = each.description
                answer["models"] = [answers.model(model) for model in each.models if caller.may_use(model.id)]
                return as_json(answer)
        raise NotHere("There is no such collection.")

    async def deployments(self, _request: Request, caller: Caller) -> Response:
        """``GET /deployments``: each served model is one."""
        return as_json(page([deployment_answer(model) for model in self._visible(caller)]))

    async def deployment(self, request: Request, caller: Caller) -> Response:
        """``GET /deployments/{owner}/{name}``."""
        return as_json(deployment_answer(self._model(request, caller)))

    async def hardware(self, _request: Request, _caller: Caller) -> Response:
        """``GET /hardware``: a bare list."""
        return as_json(list(HARDWARE))

    async def account(self, _request: Request, caller: Caller) -> Response:
        """``GET /account``."""
        return as_json(account_answer(await self._dependencies.accounts.get(caller.account_id)))

    async def webhook_secret(self, _request: Request, caller: Caller) -> Response:
        """``GET /webhooks/default/secret``."""
        return as_json({"key": await self._dependencies.webhook_secret(caller.account_id)})

    async def not_offered(self, _request: Request, _caller: Caller) -> Response:
        """Refuse routes that manage or train models."""
        raise NotOffered("This server runs the models that its operator gave it; they are not managed or trained here.")

    def _visible(self, caller: Caller) -> list[CatalogModel]:
        return [model for model in self._catalog.models() if caller.may_use(model.id)]

    def _model(self, request: Request, caller: Caller) -> CatalogModel:
        model = self._catalog.get(named(request))
        caller.require_model(model.id)
        return model

    async def _answers(self, request: Request) -> ModelAnswers:
        counts = await self._dependencies.predictions.run_counts()
        return ModelAnswers(base_url=self._dependencies.base_url(request), run_counts=counts)

    def _sorted(self, models: list[CatalogModel], asked: dict[str, str]) -> list[CatalogModel]:
        """Sort by ``sort_by``; catalog order without it."""
        by, direction = asked.get("sort_by", _SORT_BY[1]), asked.get("sort_direction", "desc")
        faults = [
            Fault(type="enum", field=name, description="Must be one of the following: " + ", ".join(known))
            for name, value, known in (("sort_by", by, _SORT_BY), ("sort_direction", direction, _DIRECTIONS))
            if value not in known
        ]
        if faults:
            raise invalid(faults)
        if "sort_by" not in asked and "sort_direction" not in asked:
            return models

        def age(model: CatalogModel) -> int:
            return model.created if by == _SORT_BY[0] else model.versions[0].created_at_s

        return sorted(models, key=age, reverse=direction == "desc")


def _unquoted(text: str) -> str:
    try:
        read = parse_json(text.encode())
    except NotJson:
        return text
    return read if isinstance(read, str) else text
