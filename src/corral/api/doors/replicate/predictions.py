"""Prediction routes: create, get, list, cancel, stream."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response

from corral.api.body import read_document
from corral.api.dependencies import Dependencies
from corral.api.disconnect import while_connected
from corral.api.doors.replicate.answers import BASE_URL, MODEL, VERSION, Answers
from corral.api.doors.replicate.body import read_body
from corral.api.doors.replicate.faults import ModelRefusal, NotHere, too_long
from corral.api.doors.replicate.input_table import INPUTS
from corral.api.doors.replicate.inputs import read_input
from corral.api.doors.replicate.logs import PERFORMANCE
from corral.api.doors.replicate.model_answers import ModelAnswers
from corral.api.doors.replicate.names import find_version
from corral.api.doors.replicate.pages import address, after_id, page, read_id, wrong_cursor
from corral.api.doors.replicate.prefer import CANCEL_AFTER, read_cancel_after, read_wait
from corral.api.doors.replicate.signed_urls import STREAM, opens
from corral.api.doors.replicate.stream import LAST_EVENT_ID, Beyond, PredictionStream, read_position
from corral.api.doors.replicate.times import read_time_ms
from corral.api.doors.replicate.translate import text_chars, to_core, unformatted
from corral.api.long_work import work_on_text
from corral.api.request_headers import nusd, read_idempotency, read_max_cost
from corral.api.run_headers import weights_header
from corral.catalog.model import CatalogModel
from corral.core.caller import Caller
from corral.core.errors import DataRemoved, PromptTooLong, UnknownPrediction
from corral.core.prediction import WEB, Prediction
from corral.service.ports import Ask, PageRequest

DOOR: Final = "replicate"
PAGE_PREDICTIONS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The model that a create request names."""

    model: CatalogModel
    asked: Mapping[str, str]
    """Notes about how it was named: model name, version, deployment name."""


class PredictionRoutes:
    """Handlers of the prediction routes."""

    def __init__(self, dependencies: Dependencies) -> None:
        self._dependencies = dependencies
        self._predictions = dependencies.predictions
        self.answers = Answers(
            dependencies.predictions.catalog,
            capability_key=dependencies.capability_key,
            aborted_status=dependencies.replicate_aborted_status,
        )

    async def create(self, request: Request, caller: Caller) -> Response:
        """``POST /predictions``."""
        return await self._create(request, caller, None)

    async def create_of_model(self, request: Request, caller: Caller) -> Response:
        """``POST /models/{owner}/{name}/predictions``."""
        model = self._predictions.catalog.get(named(request))
        return await self._create(request, caller, Target(model=model, asked=_as_asked(model)))

    async def create_of_deployment(self, request: Request, caller: Caller) -> Response:
        """``POST /deployments/{owner}/{name}/predictions``."""
        model = self._predictions.catalog.get(named(request))
        asked = {**_as_asked(model), "deployment": named(request)}
        return await self._create(request, caller, Target(model=model, asked=asked))

    async def get(self, request: Request, caller: Caller) -> Response:
        """``GET /predictions/{prediction_id}``; finds examples of models too."""
        prediction_id, base_url = request.path_params["prediction_id"], self._dependencies.base_url(request)
        try:
            prediction = await self._predictions.get(caller, prediction_id)
        except UnknownPrediction:
            models = ModelAnswers(base_url=base_url, run_counts={})
            for model in self._predictions.catalog.models():
                for example in model.page.examples:
                    if example.id == prediction_id:
                        return as_json(models.example(model, example))
            raise
        return as_json(self.answers.prediction(prediction, base_url=base_url))

    async def cancel(self, request: Request, caller: Caller) -> Response:
        """``POST /predictions/{prediction_id}/cancel``; the body is ignored."""
        prediction = await self._predictions.cancel(caller, request.path_params["prediction_id"])
        return as_json(self.answers.prediction(prediction, base_url=self._dependencies.base_url(request)))

    async def list(self, request: Request, caller: Caller) -> Response:
        """``GET /predictions``: those of every API."""
        return await self._list(request, caller, None)

    async def list_of_model(self, request: Request, caller: Caller) -> Response:
        """``GET /models/{owner}/{name}/predictions``."""
        return await self._list(request, caller, self._predictions.catalog.get(named(request)))

    async def _list(self, request: Request, caller: Caller, model: CatalogModel | None) -> Response:
        asked = dict(request.query_params)
        base_url, cursor = self._dependencies.base_url(request), asked.pop("cursor", None)
        bounds = {name: asked[name] for name in ("created_after", "created_before") if name in asked}
        source = {"source": "web"} if asked.get("source") == "web" else {}
        times_ms = {name: read_time_ms(text, param=name) for name, text in bounds.items()}
        wanted = PageRequest(
            before=None if cursor is None else read_id(cursor),
            created_from_ms=times_ms.get("created_after"),
            created_before_ms=times_ms.get("created_before"),
            door=WEB if source else None,
            model=None if model is None else model.id,
            limit=PAGE_PREDICTIONS,
        )
        try:
            found = await self._predictions.page(caller, wanted)
        except UnknownPrediction:
            raise wrong_cursor() from None
        following = None
        if len(found) == PAGE_PREDICTIONS:
            rest = replace(wanted, before=found[-1].id, limit=1)
            if await self._predictions.page(caller, rest):
                url = f"{base_url}/v1/predictions" if model is None else f"{base_url}/v1/models/{model.id}/predictions"
                following = address(url, after_id(found[-1].id), {**bounds, **source})
        return as_json(page([self.answers.prediction(one, base_url=base_url) for one in found], following=following))

    async def stream(self, request: Request) -> Response:
        """``GET /streams/{prediction_id}/{token}``: needs a signed URL instead of an API key."""
        prediction_id = request.path_params["prediction_id"]
        if not opens(self._dependencies.capability_key, STREAM, prediction_id, request.path_params["token"]):
            raise NotHere("There is no such stream.")
        prediction = await self._predictions.find(prediction_id)
        after = read_position(request.headers.get(LAST_EVENT_ID), created_s=prediction.created_at_ms // 1000)
        if after.beyond is Beyond.DONE:
            return Response(status_code=204)  # tells an EventSource to come no more
        if prediction.status.terminal and prediction.data_removed:
            raise DataRemoved("The prediction's text was removed after its retention time, or was never stored.")
        run = await self._predictions.replay(prediction_id)
        return PredictionStream(run, after=after, find=self._predictions.find, ping_s=self._dependencies.ping_s)

    async def _create(self, request: Request, caller: Caller, target: Target | None) -> Response:
        document = await read_document(request, limit_bytes=self._dependencies.body_limit_bytes)
        body = read_body(document, versioned=target is None)
        if target is None:
            model, version = find_version(self._predictions.catalog, body.version or "")
            target = Target(model=model, asked={MODEL: model.id, VERSION: version.id})
        values = read_input(body.input, INPUTS.for_model(target.model))
        wait = read_wait(request.headers.getlist("prefer"))
        base_url = self._dependencies.base_url(request)
        max_cost = read_max_cost(request)
        ask = Ask(
            caller=caller,
            door=DOOR,
            request=unformatted(target.model.id, values),
            background=True,
            idempotency=read_idempotency(request, route=f"{DOOR} {target.model.id}", document=document),
            max_cost_nusd=None if max_cost is None else nusd(max_cost),
            shown_input=body.input,
            cancel_after_s=read_cancel_after(request.headers.getlist(CANCEL_AFTER)),
            webhook=body.webhook,
            notes={**body.echo, **target.asked, BASE_URL: base_url, PERFORMANCE: values[PERFORMANCE]},
        )
        prediction, attached = await self._begin(ask, target.model, values)
        if wait is not None and not prediction.status.terminal:
            async with while_connected(request.receive):
                prediction = await self._predictions.wait(caller, prediction.id, timeout_s=wait.timeout_s)
        tell = self.answers.prediction if prediction.status.terminal else self.answers.unfinished
        answer = tell(prediction, base_url=base_url)
        headers = {"location": answer["urls"]["get"], **weights_header(target.model)}
        headers |= {} if wait is None else {"preference-applied": wait.applied}
        headers |= {"idempotency-replayed": "true"} if attached else {}
        return as_json(answer, headers, status=201)

    async def _begin(self, ask: Ask, model: CatalogModel, values: Mapping[str, Any]) -> tuple[Prediction, bool]:
        """Start the run, or store it as failed if the model cannot run it. Returns whether an idempotency key
        matched.
        """
        template = next(field.default for field in INPUTS.for_model(model) if field.name == "prompt_template")
        try:
            work = partial(to_core, model.id, values, default_template=template)
            ask = replace(ask, request=await work_on_text(work, chars=text_chars(values)))
            async with self._predictions.open(ask) as run:
                prediction_id, attached = run.id, run.attached
        except (ModelRefusal, PromptTooLong) as error:
            refusal = error if isinstance(error, ModelRefusal) else too_long(error)
            return await self._predictions.fail(ask, str(refusal)), False
        return await self._predictions.get(ask.caller, prediction_id), attached


def named(request: Request) -> str:
    """The model name in the path."""
    return f"{request.path_params['owner']}/{request.path_params['name']}"


def _as_asked(model: CatalogModel) -> dict[str, str]:
    return {MODEL: model.id, VERSION: model.version}


def as_json(body: object, headers: Mapping[str, str] | None = None, *, status: int = 200) -> Response:
    """Build a JSON response."""
    return Response(orjson.dumps(body), status, headers=dict(headers or {}), media_type="application/json")
