"""Paths of the application: which methods they have, and which path an unknown one probably means."""

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
    """The path has routes for other methods; *allow* is the ``Allow`` header."""

    def __init__(self, message: str, *, allow: str) -> None:
        super().__init__(message)
        self.allow = allow


def model_in_path(request: Request) -> str:
    """Get the model name at the end of a path.

    Raises:
        UnknownAddress: there is none, as with a slash too much.
    """
    model: str = request.path_params["model"]
    if not model.strip("/"):
        path = request.url.path
        raise UnknownAddress(f"There is no {path} here. Did you mean {path.rstrip('/')}?")
    return model


class Addresses:
    """Paths and methods of an application."""

    def __init__(self, app: FastAPI) -> None:
        """Routes are read at the first use, after all have been added."""
        self._app = app
        self._routes: list[tuple[re.Pattern[str], frozenset[str]]] = []

    def methods(self, path: str) -> tuple[str, ...]:
        """Methods of all routes that match *path*, sorted; empty if none matches."""
        found = {method for pattern, methods in self._read() for method in methods if pattern.match(path)}
        return tuple(sorted(found | {"OPTIONS"} | ({"HEAD"} if "GET" in found else set()))) if found else ()

    def nearest(self, path: str) -> str | None:
        """API path that *path* probably means: with ``/v1`` added, or without superfluous parts."""
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
