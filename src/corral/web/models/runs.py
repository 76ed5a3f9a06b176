"""Playground routes: start, watch and cancel a run."""

import hashlib
import json
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response

from corral.api.doors.replicate.answers import BASE_URL, MODEL, VERSION, Answers
from corral.api.doors.replicate.faults import ModelRefusal
from corral.api.doors.replicate.logs import PERFORMANCE
from corral.api.long_work import work_on_text
from corral.catalog.model import CatalogModel
from corral.core.caller import Caller
from corral.core.errors import CorralError
from corral.core.prediction import WEB, Prediction
from corral.service.ports import Ask, Idempotency
from corral.web.errors import status_of
from corral.web.forms import Form, idempotency_key
from corral.web.measures import of_prediction
from corral.web.models.playground import Playground, as_text
from corral.web.models.questions import Question, faults_of, read_question, shown_input, to_request
from corral.web.pages import Act, Pages, Visit, redirect

_JSON: Final = "application/json"
_REFUSED: Final = 422


class Runs:
    """Routes of the playground besides its page."""

    def __init__(self, pages: Pages, playground: Playground) -> None:
        """Add the routes; *playground* shows the form again after an error."""
        self._dependencies = pages.dependencies
        self._predictions = pages.dependencies.predictions
        self._playground = playground
        self._answers = Answers(
            self._predictions.catalog,
            capability_key=pages.dependencies.capability_key,
            aborted_status=pages.dependencies.replicate_aborted_status,
        )
        for model in self._predictions.catalog.models():
            pages.post(f"/{model.id}/run", self._start_of(model), page=f"/{model.id}")
        pages.get("/run/{prediction_id}", self.show)
        pages.post("/run/{prediction_id}/cancel", self.cancel, page="/p/{prediction_id}")

    def _start_of(self, model: CatalogModel) -> Act:
        async def start(visit: Visit, form: Form) -> Response:
            """``POST /{owner}/{name}/run``: JSON for the page's script, otherwise a redirect to the prediction."""
            caller = visit.signed_in
            try:
                question = read_question(form, model)
                ask = await self._ask(visit.request, caller, model, question, once=idempotency_key(form))
                async with self._predictions.open(ask) as run:
                    prediction_id = run.id
            except (CorralError, ModelRefusal) as error:
                return await self._refuse(visit, form, model, error)
            if _by_script(visit):
                return _json({"id": prediction_id})
            return redirect(f"/p/{prediction_id}")

        return start

    async def show(self, visit: Visit) -> Response:
        """``GET /run/{prediction_id}``: state of a run as JSON."""
        prediction = await self._predictions.get(visit.signed_in, visit.request.path_params["prediction_id"])
        return _json(self._told(visit, prediction))

    async def cancel(self, visit: Visit, _form: Form) -> Response:
        """``POST /run/{prediction_id}/cancel``: answers after the run is settled."""
        prediction = await self._predictions.cancel(visit.signed_in, visit.request.path_params["prediction_id"])
        return _json(self._told(visit, prediction))

    async def _ask(
        self, request: Request, caller: Caller, model: CatalogModel, question: Question, *, once: str | None
    ) -> Ask:
        generation = await work_on_text(partial(to_request, question, model), chars=question.text_chars)
        return Ask(
            caller=caller,
            door=WEB,
            request=generation,
            background=True,
            idempotency=None if once is None else _idempotency(once, model, question),
            shown_input=shown_input(question, generation),
            notes={
                MODEL: model.id,
                VERSION: model.version,
                BASE_URL: self._dependencies.base_url(request),
                PERFORMANCE: question.inputs.get(PERFORMANCE, False),
            },
        )

    async def _refuse(
        self, visit: Visit, form: Form, model: CatalogModel, error: CorralError | ModelRefusal
    ) -> Response:
        status = _REFUSED if isinstance(error, ModelRefusal) else status_of(error)
        faults = faults_of(error)
        if _by_script(visit):
            return _json({"faults": faults}, status=status)
        return await self._playground.again(visit, model, form, faults, status=status)

    def _told(self, visit: Visit, prediction: Prediction) -> dict[str, Any]:
        texts = prediction.texts
        return {
            "id": prediction.id,
            "status": prediction.status,
            "over": prediction.status.terminal,
            "error": prediction.error,
            "removed": prediction.data_removed,
            "text": None if texts is None else texts[0],
            "figures": [figure.value for figure in of_prediction(prediction)],
            "json": as_text(self._answers.prediction(prediction, base_url=self._dependencies.base_url(visit.request))),
        }


def _idempotency(once: str, model: CatalogModel, question: Question) -> Idempotency:
    """Idempotency key of a form, so that sending it again runs once."""
    said = [[message.role, message.content] for message in question.turns]
    body = json.dumps([model.id, dict(question.inputs), question.chat, said], sort_keys=True)
    return Idempotency(key=f"page-{once}", body_digest=hashlib.sha256(body.encode()).digest())


def _by_script(visit: Visit) -> bool:
    return _JSON in visit.request.headers.get("accept", "")


def _json(body: Mapping[str, Any], *, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, media_type=_JSON)
