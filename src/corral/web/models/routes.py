"""Every page of every model."""

from corral.web.models.code_page import CodePage
from corral.web.models.playground import Playground
from corral.web.models.reading import ReadingPages
from corral.web.models.runs import Runs
from corral.web.pages import Pages


def add_models(pages: Pages) -> None:
    """Add the routes of the catalog's models, which have the addresses ``/{owner}/{name}``."""
    Runs(pages, Playground(pages))
    CodePage(pages)
    ReadingPages(pages)
