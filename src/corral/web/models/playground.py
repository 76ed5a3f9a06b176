"""Playground page: form, answer, price, readme."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, cast
from urllib.parse import quote

import msgspec
from starlette.responses import Response

from corral.api.doors.replicate.answers import Answers
from corral.api.doors.replicate.input_table import INPUTS
from corral.api.doors.replicate.inputs import STOP_SEQUENCES, stops_text
from corral.api.doors.replicate.model_answers import ModelAnswers
from corral.catalog.cards import known_card
from corral.catalog.model import CatalogModel
from corral.catalog.page import Example
from corral.core.accounts import Scope
from corral.core.errors import InvalidRequest, UnknownPrediction
from corral.core.generation import Message, Role
from corral.core.prediction import Prediction
from corral.web.forms import Form
from corral.web.markdown import answer_markdown, markdown
from corral.web.measures import NOTHING_YET, Figure, of_example, of_prediction
from corral.web.models.form import controls, read_inputs, typed_numbers
from corral.web.models.heading import heading
from corral.web.models.prices import EXAMPLE_INPUT_TOKENS, EXAMPLE_OUTPUT_TOKENS, EXAMPLE_USD, price_table
from corral.web.models.questions import PROMPT, Question, question_of, read_question
from corral.web.models.turns import MESSAGES, as_data
from corral.web.pages import Pages, Show, Visit, redirect

_MAX_SHOWN_CHARS: Final = 60
_TURNS: Final = (Role.USER, Role.ASSISTANT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """Answer that the page shows."""

    kind: str = "nothing"
    """``nothing``, ``example`` or ``prediction``."""
    id: str = ""
    status: str = ""
    over: bool = True
    text: str = ""
    note: str = ""
    """Reason why there is no text, or the error."""
    figures: tuple[Figure, ...] = NOTHING_YET
    document: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def html(self) -> str:
        """The text as HTML."""
        return answer_markdown(self.text.removeprefix(" "))

    @property
    def json(self) -> str:
        """The whole prediction as JSON."""
        return as_text(self.document) if self.document else ""


class Playground:
    """``GET /{owner}/{name}``."""

    def __init__(self, pages: Pages) -> None:
        """Add the route of each model."""
        self._pages = pages
        self._dependencies = pages.dependencies
        self._predictions = pages.dependencies.predictions
        self._answers = Answers(
            self._predictions.catalog,
            capability_key=pages.dependencies.capability_key,
            aborted_status=pages.dependencies.replicate_aborted_status,
        )
        for model in self._predictions.catalog.models():
            pages.get(f"/{model.id}", self._page_of(model), signed_in=False)

    def _page_of(self, model: CatalogModel) -> Show:
        async def show(visit: Visit) -> Response:
            """With ``?prediction=`` or ``?example=`` the form has its input, otherwise that of the first example."""
            query = visit.request.query_params
            notice = ""
            if query.get("prediction"):
                found = await self._wanted(visit, query["prediction"])
                if isinstance(found, Prediction):
                    if found.model != model.id:
                        return redirect(self._address(found))
                    return await self._draw(visit, model, *self._of_prediction(visit, model, found))
                notice = found
            examples, wanted = model.page.examples, query.get("example", "")
            example = next((each for each in examples if each.id == wanted), None)
            if wanted and example is None:
                notice = f"There is no example “{wanted[:_MAX_SHOWN_CHARS]}”."
            example = example or next(iter(examples), None)
            drawn = (Question(inputs={}, chat=False), Shown())
            if example is not None:
                drawn = self._of_example(visit, model, example)
            return await self._draw(visit, model, *drawn, notice=notice, status=404 if notice else 200)

        return show

    async def _wanted(self, visit: Visit, prediction_id: str) -> Prediction | str:
        """Get the prediction, or a message why it cannot be shown."""
        shown = prediction_id[:_MAX_SHOWN_CHARS]
        if visit.caller is None:
            return f"Sign in to see the prediction “{shown}”."
        try:
            return await self._predictions.get(visit.caller, prediction_id)
        except UnknownPrediction:
            return f"Your account has no prediction “{shown}”."

    def _address(self, prediction: Prediction) -> str:
        """URL of another model's prediction: that model's playground if it is served."""
        if any(model.id == prediction.model for model in self._predictions.catalog.models()):
            return f"/{prediction.model}?prediction={quote(prediction.id)}"
        return f"/p/{quote(prediction.id)}"

    async def again(
        self, visit: Visit, model: CatalogModel, form: Form, faults: Mapping[str, str], *, status: int
    ) -> Response:
        """Show the submitted form with its errors."""
        fields = INPUTS.for_model(model)
        try:
            question = read_question(form, model)
        except InvalidRequest:
            question = Question(inputs=read_inputs(form, fields), chat=False)
        question = replace(question, inputs={**question.inputs, **typed_numbers(form, fields)})
        return await self._draw(visit, model, question, Shown(), faults=faults, status=status)

    async def _draw(
        self,
        visit: Visit,
        model: CatalogModel,
        question: Question,
        shown: Shown,
        *,
        faults: Mapping[str, str] | None = None,
        notice: str = "",
        status: int = 200,
    ) -> Response:
        now_s = self._dependencies.clock()
        card = known_card(model.id)
        values = {
            "heading": heading(
                model,
                self._predictions.deployment_of(model),
                runs=(await self._predictions.run_counts()).get(model.id, 0),
                price=model.list_price_at(now_s),
                here="Playground",
            ),
            "model": model,
            "controls": controls(INPUTS.for_model(model), question.inputs, faults or {}),
            "fault": (faults or {}).get("", ""),
            "notice": notice,
            "chat": question.chat,
            "turns": as_data(question.turns),
            "shown": shown,
            "may_run": visit.caller is not None and Scope.INFERENCE in visit.caller.scopes,
            "prices": price_table(model.list_price_at(now_s)),
            "charged": price_table(model.price_at(now_s)),
            "example_usd": EXAMPLE_USD,
            "example_input_tokens": EXAMPLE_INPUT_TOKENS,
            "example_output_tokens": EXAMPLE_OUTPUT_TOKENS,
            "pull": f"corral pull {card.hub}" if model.stands_in and card is not None and card.hub else "",
            "readme": markdown(model.page.readme),
        }
        return self._pages.draw(visit, "model/playground.html", values, status=status)

    def _of_example(self, visit: Visit, model: CatalogModel, example: Example) -> tuple[Question, Shown]:
        told = ModelAnswers(base_url=self._dependencies.base_url(visit.request), run_counts={}).example(model, example)
        shown = Shown(
            kind="example",
            id=example.id,
            status="succeeded",
            text="".join(example.output),
            figures=of_example(example),
            document=told,
        )
        return question_of(example.input, model), shown

    def _of_prediction(self, visit: Visit, model: CatalogModel, prediction: Prediction) -> tuple[Question, Shown]:
        kept = prediction.input
        question = Question(inputs={}, chat=False) if kept is None else question_of(_as_inputs(kept["shown"]), model)
        note = prediction.error or ""
        if prediction.data_removed and prediction.status.terminal:
            note = "Input and output are not stored: their retention time is over, or the API key is in privacy mode."
        shown = Shown(
            kind="prediction",
            id=prediction.id,
            status=prediction.status,
            over=prediction.status.terminal,
            text="".join((prediction.texts or [""])[:1]),
            note=note,
            figures=of_prediction(prediction),
            document=self._answers.prediction(prediction, base_url=self._dependencies.base_url(visit.request)),
        )
        return question, shown


def as_text(document: Mapping[str, Any]) -> str:
    """Format JSON here, because JavaScript would round integers beyond 2**53."""
    return json.dumps(document, indent=2, ensure_ascii=False)


def _as_inputs(shown: Mapping[str, Any]) -> Mapping[str, Any]:
    """Stored input of a prediction if this form can hold it; empty otherwise."""
    if not (isinstance(shown.get(PROMPT), str) or _is_conversation(shown.get(MESSAGES))):
        return {}
    given = shown.get(STOP_SEQUENCES)
    return {**shown, STOP_SEQUENCES: stops_text(cast("list[object]", given))} if isinstance(given, list) else shown


def _is_conversation(given: object) -> bool:
    """Whether *given* is the message list of a chat of this page."""
    try:
        said = msgspec.convert(given, list[Message])
    except msgspec.ValidationError:
        return False
    spoken = [message.role for message in said if message.role is not Role.SYSTEM]
    return len(spoken) % 2 == 1 and all(role is _TURNS[index % 2] for index, role in enumerate(spoken))
