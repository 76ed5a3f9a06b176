"""Error pages for unknown paths and methods; programs get the response of the API."""

from collections.abc import Awaitable, Callable
from typing import Final

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from corral.web.errors import MethodNotAllowed, UnknownPage
from corral.web.pages import Pages, redirect

_HTML: Final = "text/html"

Handler = Callable[[Request, HTTPException], Awaitable[Response]]


def add_error_pages(app: FastAPI, pages: Pages) -> None:
    """Show browsers an error page for 404 and 405. Call after adding all other handlers of these."""
    for status in (404, 405):
        found = app.exception_handlers.get(status) or app.exception_handlers[HTTPException]
        app.add_exception_handler(status, _handler(pages, found))  # pyright: ignore[reportArgumentType] - of 404, 405


def _handler(pages: Pages, otherwise: Handler) -> Handler:
    async def handle(request: Request, refused: HTTPException) -> Response:
        if request.method == "GET" and (path := pages.redirect_of(request)):
            return redirect(path)
        if request.method == "OPTIONS" or _HTML not in request.headers.get("accept", ""):
            return await otherwise(request, refused)
        if refused.status_code == 405:
            of_program = await otherwise(request, refused)
            answer = await pages.refuse(request, MethodNotAllowed(request.method, request.url.path))
            answer.headers["allow"] = of_program.headers.get("allow", "")
            return answer
        return await pages.refuse(request, UnknownPage(request.url.path))

    return handle
