"""Page with code snippets for the input in the form."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from starlette.responses import Response

from corral.api.doors.replicate.faults import ModelRefusal
from corral.api.long_work import work_on_text
from corral.catalog.model import CatalogModel
from corral.core.errors import InvalidRequest
from corral.web.forms import Form
from corral.web.models.heading import heading
from corral.web.models.questions import Question, faults_of, question_of, read_question, to_request
from corral.web.models.snippets import KEY, DoorCode, all_code
from corral.web.pages import Act, Pages, Show, Visit


class CodePage:
    """``/{owner}/{name}/api``."""

    def __init__(self, pages: Pages) -> None:
        """Add the routes of each model."""
        self._pages = pages
        self._dependencies = pages.dependencies
        for model in pages.dependencies.predictions.catalog.models():
            pages.get(f"/{model.id}/api", self._page_of(model), signed_in=False)
            pages.post(f"/{model.id}/api", self._code_of(model), signed_in=False)

    def _page_of(self, model: CatalogModel) -> Show:
        async def show(visit: Visit) -> Response:
            """``GET``: for the input of the first example."""
            examples = model.page.examples
            inputs = examples[0].input if examples else {"prompt": "Hello!"}
            return await self._draw(visit, model, question_of(inputs, model))

        return show

    def _code_of(self, model: CatalogModel) -> Act:
        async def show(visit: Visit, form: Form) -> Response:
            """``POST``: for what a form holds. It changes nothing, and so asks for no session."""
            return await self._draw(visit, model, read_question(form, model))

        return show

    async def _draw(self, visit: Visit, model: CatalogModel, question: Question) -> Response:
        faults: Mapping[str, str] = {}
        doors: list[DoorCode] = []
        try:
            base_url = self._dependencies.base_url(visit.request)
            doors = await work_on_text(partial(_code, question, model, base_url), chars=question.text_chars)
        except (InvalidRequest, ModelRefusal) as refused:
            faults = faults_of(refused)
        values: dict[str, Any] = {"model": model, "doors": doors, "faults": faults, "key": KEY}
        if visit.by_script:
            return self._pages.draw(visit, "model/code_part.html", values)
        price = model.list_price_at(self._dependencies.clock())
        runs = (await self._dependencies.predictions.run_counts()).get(model.id, 0)
        deployment = self._dependencies.predictions.deployment_of(model)
        head = heading(model, deployment, runs=runs, price=price, here="API")
        return self._pages.draw(visit, "model/code.html", {**values, "heading": head})


def _code(question: Question, model: CatalogModel, base_url: str) -> list[DoorCode]:
    return all_code(question, model, to_request(question, model), base_url=base_url)
