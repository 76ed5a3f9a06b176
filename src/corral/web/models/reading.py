"""Text pages of a model: examples, readme, versions."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from starlette.responses import Response

from corral.catalog.model import CatalogModel
from corral.web.markdown import answer_markdown, markdown
from corral.web.measures import of_example
from corral.web.models.heading import heading
from corral.web.pages import Pages, Show, Visit


class ReadingPages:
    """``/{owner}/{name}/examples``, ``/readme`` and ``/versions``."""

    def __init__(self, pages: Pages) -> None:
        """Add the routes of each model."""
        self._pages = pages
        self._dependencies = pages.dependencies
        for model in pages.dependencies.predictions.catalog.models():
            for tab, name, content in (
                ("Examples", "examples", _examples),
                ("README", "readme", _readme),
                ("Versions", "versions", _versions),
            ):
                show = self._page_of(model, tab, f"model/{name}.html", content(model))
                pages.get(f"/{model.id}/{name}", show, signed_in=False)

    def _page_of(self, model: CatalogModel, tab: str, template: str, content: Mapping[str, Any]) -> Show:
        async def show(visit: Visit) -> Response:
            runs = (await self._dependencies.predictions.run_counts()).get(model.id, 0)
            price = model.list_price_at(self._dependencies.clock())
            deployment = self._dependencies.predictions.deployment_of(model)
            head = heading(model, deployment, runs=runs, price=price, here=tab)
            values = {"model": model, "heading": head, **content}
            return self._pages.draw(visit, template, values)

        return show


def _examples(model: CatalogModel) -> dict[str, Any]:
    return {
        "examples": [
            {
                "id": example.id,
                "input": example.input,
                "html": answer_markdown("".join(example.output).removeprefix(" ")),
                "figures": of_example(example)[:-1],
                "at_ms": example.created_at_ms,
            }
            for example in model.page.examples
        ]
    }


def _readme(model: CatalogModel) -> dict[str, Any]:
    return {"readme": markdown(model.page.readme, first_heading=2)}


def _versions(model: CatalogModel) -> dict[str, Any]:
    return {
        "versions": [
            {"id": version.id, "day": datetime.fromtimestamp(version.created_at_s, UTC).date().isoformat()}
            for version in model.versions
        ]
    }
