"""Cover images of models. Public, because pages show them to everybody."""

from collections.abc import Awaitable, Callable
from typing import Final

import orjson
from starlette.requests import Request
from starlette.responses import Response

from corral.catalog.cards import model_cards
from corral.catalog.catalog import Catalog

_HEADERS: Final = {
    "cache-control": "public, max-age=3600",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    "cross-origin-resource-policy": "cross-origin",
}


def cover(catalog: Catalog) -> Callable[[Request], Awaitable[Response]]:
    """Create the endpoint: an SVG by file name, or 404."""
    known = (*(card.page for card in model_cards()), *(model.page for model in catalog.models()))
    pages = {page.cover_image: page for page in known}

    async def endpoint(request: Request) -> Response:
        page = pages.get(request.path_params["file"])
        if page is None:
            return Response(orjson.dumps({"detail": "Not Found"}), 404, media_type="application/json")
        return Response(page.cover(), headers=_HEADERS, media_type="image/svg+xml")

    return endpoint
