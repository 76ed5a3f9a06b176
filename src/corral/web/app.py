"""Add all pages to the application."""

from fastapi import FastAPI
from starlette.responses import Response

from corral.web.assets import PREFIX, send_asset
from corral.web.dashboard.accounts import AccountPages
from corral.web.dashboard.deployments import DeploymentPages
from corral.web.dashboard.keys import KeyPages
from corral.web.dashboard.overview import DashboardPages
from corral.web.dashboard.predictions import PredictionPages
from corral.web.dashboard.webhooks import WebhookPages
from corral.web.dependencies import PageDependencies
from corral.web.error_pages import add_error_pages
from corral.web.home import Home
from corral.web.models.routes import add_models
from corral.web.pages import Pages, Visit
from corral.web.reference import ReferencePage
from corral.web.sign_in import SignIn


def add_pages(app: FastAPI, dependencies: PageDependencies) -> None:
    """Add the pages of *dependencies* after all API routes, so that pages never shadow them."""
    pages = Pages(dependencies)
    pages.get(PREFIX + "{path:path}", _asset, signed_in=False)
    Home(pages)
    SignIn(pages)
    PredictionPages(pages)
    DashboardPages(pages)
    KeyPages(pages)
    WebhookPages(pages)
    AccountPages(pages)
    DeploymentPages(pages)
    ReferencePage(pages, app)
    add_models(pages)  # last: their addresses begin with any owner's name
    app.include_router(pages.router)
    add_error_pages(app, pages)


async def _asset(visit: Visit) -> Response:
    return await send_asset(visit.request)
