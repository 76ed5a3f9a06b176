"""Add the pages of every model."""

from starlette.responses import Response

from corral.web.models.code_page import CodePage
from corral.web.models.playground import Playground
from corral.web.models.reading import ReadingPages
from corral.web.models.runs import Runs
from corral.web.pages import Pages, Visit, redirect


def add_models(pages: Pages) -> None:
    """Add the routes of all models, at ``/{owner}/{name}``."""
    Runs(pages, Playground(pages))
    CodePage(pages)
    ReadingPages(pages)
    for owner in {model.owner for model in pages.dependencies.predictions.catalog.models()}:
        _add_other_names(pages, owner)


def _add_other_names(pages: Pages, owner: str) -> None:
    """Add a catch-all ``/{owner}/{name}``: redirects another spelling to the model's page, 404 if it is not served."""

    async def show(visit: Visit) -> Response:
        """``GET /{owner}/{name}``: redirects to the model's page.

        Raises:
            UnknownModel: none is.
        """
        asked = f"{owner}/{visit.request.path_params['name']}"
        model = pages.dependencies.predictions.catalog.get(asked)
        return redirect(f"/{model.id}")

    pages.get(f"/{owner}/{{name}}", show, signed_in=False)
