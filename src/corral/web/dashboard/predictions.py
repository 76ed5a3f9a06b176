"""Prediction list and detail pages: live view, cancel, receipt check, webhook redelivery."""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

from starlette.responses import Response

from corral.core.accounts import Scope
from corral.core.errors import NotFound
from corral.core.prediction import WEB, Prediction, Status
from corral.core.pricing import verify
from corral.core.webhooks import DeliveryState
from corral.service.ports import PageRequest
from corral.web.dashboard import prediction_view
from corral.web.dashboard.layout import draw
from corral.web.filters import read_filters
from corral.web.forms import Form
from corral.web.pages import Pages, Visit, redirect
from corral.web.run_events import Clocks, watched

PAGE: Final = 25
DOORS: Final = ("openai", "replicate", "deepinfra", WEB)
STATUSES: Final[dict[str, tuple[Status, ...]]] = {
    "running": (Status.STARTING, Status.PROCESSING),
    "succeeded": (Status.SUCCEEDED,),
    "failed": (Status.FAILED,),
    "canceled": (Status.CANCELED,),
}


class PredictionPages:
    """List of predictions and page of one prediction."""

    def __init__(self, pages: Pages) -> None:
        """Add the routes."""
        self._pages = pages
        self._console = pages.dependencies.console
        self._predictions = pages.dependencies.predictions
        one = "/p/{prediction_id}"
        pages.get("/p", self.listing)
        pages.get(one, self.prediction)
        pages.get(one + "/events", self.watch)
        pages.get(one + "/receipt", self.verified)
        pages.get(one + "/deliveries", self.deliveries)
        pages.post(one + "/cancel", self.cancel, page=one)
        pages.post(one + "/deliveries/{delivery_id}/replay", self.replay, page=one + "#deliveries")

    async def listing(self, visit: Visit) -> Response:
        """``GET /p``: newest first, paginated."""
        query = visit.request.query_params
        models = tuple(model.id for model in self._predictions.catalog.models())
        filters = (
            ("status", "Status", tuple(STATUSES)),
            ("model", "Model", models),
            ("door", "Door", DOORS),
        )
        asked = read_filters(query, {name: options for name, _, options in filters}, others=("before",))
        chosen = asked.chosen
        before = query.get("before") or None
        wanted = PageRequest(
            before=before,
            door=chosen.get("door"),
            model=chosen.get("model"),
            statuses=STATUSES.get(chosen.get("status", ""), ()),
            limit=PAGE + 1,
        )
        found = await self._predictions.page(visit.signed_in, wanted)
        page = found[:PAGE]
        values = {
            "predictions": page,
            "filters": filters,
            "chosen": chosen,
            "ignored": asked.ignored,
            "newest": _address(chosen) if before else None,
            "older": _address({**chosen, "before": page[-1].id}) if len(found) > PAGE else None,
        }
        return draw(self._pages, visit, "predictions.html", values)

    async def prediction(self, visit: Visit) -> Response:
        """``GET /p/{prediction_id}``."""
        return await self._show(visit, await self._find(visit))

    async def watch(self, visit: Visit) -> Response:
        """``GET /p/{prediction_id}/events``: the text as server-sent events, live or from the log."""
        prediction = await self._find(visit)
        run = await self._predictions.attach(visit.signed_in, prediction.id)
        clocks = Clocks(
            now_ms=lambda: int(1000 * self._pages.dependencies.clock()),
            created_at_ms=prediction.created_at_ms,
            admitted_at_ms=prediction.admitted_at_ms,
        )
        return watched(run, clocks)

    async def verified(self, visit: Visit) -> Response:
        """``GET /p/{prediction_id}/receipt``: the page with its receipt verified.

        While the prediction runs, on to its page, which says that the receipt comes with the end.
        """
        prediction = await self._find(visit)
        if prediction.receipt is None:
            return redirect(f"/p/{prediction.id}#receipt")
        return await self._show(visit, prediction, problems=verify(prediction.receipt))

    async def cancel(self, visit: Visit, _sent: Form) -> Response:
        """``POST /p/{prediction_id}/cancel``: redirects to the prediction."""
        canceled = await self._predictions.cancel(visit.signed_in, visit.request.path_params["prediction_id"])
        return redirect(f"/p/{canceled.id}")

    async def replay(self, visit: Visit, _sent: Form) -> Response:
        """``POST /p/{prediction_id}/deliveries/{delivery_id}/replay``: redirects to the deliveries."""
        prediction = await self._find(visit)
        delivery_id = visit.request.path_params["delivery_id"]
        if all(each.id != delivery_id for each in await self._console.deliveries(visit.signed_in, prediction.id)):
            raise NotFound(f"The prediction has no delivery '{delivery_id}'.")
        await self._console.replay(visit.signed_in, delivery_id)
        return redirect(f"/p/{prediction.id}#deliveries")

    async def deliveries(self, visit: Visit) -> Response:
        """``GET /p/{prediction_id}/deliveries``: the part of the page that refreshes."""
        return draw(self._pages, visit, "deliveries.html", await self._told(visit, await self._find(visit)))

    async def _find(self, visit: Visit) -> Prediction:
        return await self._predictions.get(visit.signed_in, visit.request.path_params["prediction_id"])

    async def _show(self, visit: Visit, prediction: Prediction, *, problems: list[str] | None = None) -> Response:
        values = {
            **await self._told(visit, prediction),
            "running": not prediction.status.terminal,
            "log": prediction_view.log_lines(prediction),
            "metrics": prediction_view.metrics(prediction),
            "text_gone": prediction_view.text_gone(prediction),
            "input": prediction_view.input_fields(prediction),
            "document": prediction_view.document(prediction),
            "problems": problems,
            "way_in": prediction_view.way_in(prediction.door),
        }
        return draw(self._pages, visit, "prediction.html", values)

    async def _told(self, visit: Visit, prediction: Prediction) -> dict[str, Any]:
        found = await self._console.deliveries(visit.signed_in, prediction.id)
        return {
            "prediction": prediction,
            "deliveries": found,
            "awaited": any(each.state is DeliveryState.PENDING for each in found),
            "may_act": Scope.INFERENCE in visit.signed_in.scopes,
        }


def _address(query: Mapping[str, str]) -> str:
    return f"/p?{urlencode(query)}" if query else "/p"
