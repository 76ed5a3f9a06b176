"""The paths of an application, and the errors of requests that none of its routes takes."""

import re
from collections.abc import Iterator
from typing import Final

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.requests import Request

from corral.core.errors import CorralError

_MAX_PREFIX_PARTS: Final = 4


class UnknownAddress(CorralError):
    """No route has this path."""


class MethodNotAllowed(CorralError):
    """The path has routes, for other methods; *allow* is the value of the ``Allow`` header."""

    def __init__(self, message: str, *, allow: str) -> None:
        super().__init__(message)
        self.allow = allow


def model_in_path(request: Request) -> str:
    """The model at the end of a path.

    Raises:
        UnknownAddress: there is none, as with a slash too much.
    """
    model: str = request.path_params["model"]
    if not model.strip("/"):
        path = request.url.path
        raise UnknownAddress(f"There is no {path} here. Did you mean {path.rstrip('/')}?")
    return model


class Addresses:
    """The paths of an application: which methods each has, and which one may be meant by another."""

    def __init__(self, app: FastAPI) -> None:
        """Read the routes at the first question, when all have been added."""
        self._app = app
        self._routes: list[tuple[re.Pattern[str], frozenset[str]]] = []

    def methods(self, path: str) -> tuple[str, ...]:
        """The methods of every route that *path* leads to, in alphabetical order; none where no route does."""
        found = {method for pattern, methods in self._read() for method in methods if pattern.match(path)}
        return tuple(sorted(found | {"OPTIONS"} | ({"HEAD"} if "GET" in found else set()))) if found else ()

    def nearest(self, path: str) -> str | None:
        """The API path that *path* was probably meant to be: with ``/v1``, or without what is too much."""
        return next((candidate for candidate in _candidates(path) if self.methods(candidate)), None)

    def _read(self) -> list[tuple[re.Pattern[str], frozenset[str]]]:
        if not self._routes:
            for route in iter_route_contexts(self._app.routes):
                pattern, methods = getattr(route, "path_regex", None), route.methods
                if pattern is not None and methods:
                    self._routes.append((pattern, frozenset(methods)))
        return self._routes


def _candidates(path: str) -> Iterator[str]:
    parts = [part for part in path.split("/") if part]
    for skipped in range(min(len(parts), _MAX_PREFIX_PARTS)):
        rest = parts[skipped:]
        if rest[0] == "v1":
            yield "/" + "/".join(rest)
        else:
            yield "/v1/" + "/".join(rest)
            if not skipped:
                yield "/" + "/".join(rest)
