"""Routes of the Replicate API: under ``/v1``, at the root, and under ``/v1/v1``.

Its clients of version 1 and 2 read one environment variable with and without the ``/v1``, so any of these may be asked.
What a root has for other doors is left to them: see ``_NOT_AT_THE_ROOT``.
"""

from dataclasses import dataclass, replace
from typing import Final

from fastapi import APIRouter

from corral.api.dependencies import Dependencies
from corral.api.door import Door, Handler, OpenHandler
from corral.api.doors.replicate import operations
from corral.api.doors.replicate.counting import Counting
from corral.api.doors.replicate.errors import from_error
from corral.api.doors.replicate.files import FileRoutes
from corral.api.doors.replicate.models import ModelRoutes
from corral.api.doors.replicate.predictions import PredictionRoutes
from corral.api.doors.replicate.rates import Kind, Rates
from corral.api.operation import Operation
from corral.core.accounts import Scope

_DOCUMENTED: Final = "/v1"
ELSEWHERE: Final = ("", "/v1/v1")
_RUN: Final = (Scope.INFERENCE,)
_READ: Final = (Scope.INFERENCE, Scope.READ)
_MODEL: Final = "/models/{owner}/{name}"
_NOT_AT_THE_ROOT: Final = frozenset(
    {("GET", _MODEL), ("GET", f"{_MODEL}/versions"), ("DELETE", _MODEL), ("POST", "/models")}
)
"""Routes of DeepInfra's API at the same paths."""
_SHARED: Final = frozenset({("GET", _MODEL)})
"""Under ``/v1`` this is one with OpenAI's, as ``GET /models`` is everywhere: see ``corral.api.models``."""

NOT_OFFERED: Final = (
    ("POST", "/models"),
    ("PATCH", _MODEL),
    ("DELETE", _MODEL),
    ("DELETE", f"{_MODEL}/versions/{{version_id}}"),
    ("POST", f"{_MODEL}/versions/{{version_id}}/trainings"),
    ("GET", "/trainings"),
    ("GET", "/trainings/{training_id}"),
    ("POST", "/trainings/{training_id}/cancel"),
    ("POST", "/deployments"),
    ("PATCH", "/deployments/{owner}/{name}"),
    ("DELETE", "/deployments/{owner}/{name}"),
)
"""Routes that manage and train models."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicateDoor:
    """The router with the parts that the application composes with other routes."""

    router: APIRouter
    models: ModelRoutes
    count: Counting


def replicate_door(dependencies: Dependencies) -> ReplicateDoor:
    """Build the router."""
    router, catalog = APIRouter(tags=["replicate"]), dependencies.predictions.catalog
    door = Door(keys=dependencies.keys, from_error=from_error, router=router, catalog=catalog)
    rates = Rates(
        creates_per_minute=dependencies.rates.creates_per_minute,
        requests_per_minute=dependencies.rates.requests_per_minute,
        clock=dependencies.clock,
    )
    paths = _Paths(door, Counting(rates=rates))
    models = ModelRoutes(dependencies)
    _add_predictions(paths, PredictionRoutes(dependencies))
    _add_models(paths, models)
    _add_files(paths, FileRoutes(dependencies))
    both = APIRouter()
    both.include_router(door.router)
    both.include_router(paths.undocumented.router)
    return ReplicateDoor(router=both, models=models, count=paths.count)


class _Paths:
    """Adds each route under every prefix; only one of them is in the OpenAPI document."""

    def __init__(self, door: Door, count: Counting) -> None:
        self.count = count
        self._door = door
        self.undocumented = replace(door, router=APIRouter(include_in_schema=False))

    def add(
        self,
        method: str,
        path: str,
        handler: Handler,
        operation: Operation,
        *,
        scopes: tuple[Scope, ...] = _READ,
        kind: Kind = Kind.OTHER,
        documented: bool = True,
        tokens: bool = True,
    ) -> None:
        counted = self.count(handler, self._door, kind)
        elsewhere = [prefix + path for prefix in ELSEWHERE if prefix or (method, path) not in _NOT_AT_THE_ROOT]
        if (method, path) not in _SHARED:
            door = self._door if documented else self.undocumented
            door.route(method, [_DOCUMENTED + path], counted, scopes=scopes, operation=operation, tokens=tokens)
        self.undocumented.route(method, elsewhere, counted, scopes=scopes, operation=operation, tokens=tokens)

    def add_open(
        self, path: str, handler: OpenHandler, operation: Operation, *, elsewhere: tuple[str, ...] = ()
    ) -> None:
        self._door.open_route("GET", [_DOCUMENTED + path], handler, operation=operation)
        self.undocumented.open_route("GET", [prefix + path for prefix in elsewhere], handler, operation=operation)


def _add_predictions(paths: _Paths, routes: PredictionRoutes) -> None:
    create = Kind.CREATE
    paths.add("POST", "/predictions", routes.create, operations.CREATE, scopes=_RUN, kind=create)
    of_model, of_deployment = operations.CREATE_OF_MODEL, operations.CREATE_OF_DEPLOYMENT
    paths.add("POST", f"{_MODEL}/predictions", routes.create_of_model, of_model, scopes=_RUN, kind=create)
    path = "/deployments/{owner}/{name}/predictions"
    paths.add("POST", path, routes.create_of_deployment, of_deployment, scopes=_RUN, kind=create)
    paths.add("GET", "/predictions", routes.list, operations.LIST, tokens=False)
    paths.add("GET", f"{_MODEL}/predictions", routes.list_of_model, operations.LIST_OF_MODEL, tokens=False)
    paths.add("GET", "/predictions/{prediction_id}", routes.get, operations.GET)
    paths.add("POST", "/predictions/{prediction_id}/cancel", routes.cancel, operations.CANCEL, scopes=_RUN)
    paths.add_open("/streams/{prediction_id}/{token}", routes.stream, operations.STREAM)


def _add_models(paths: _Paths, routes: ModelRoutes) -> None:
    paths.add("GET", _MODEL, routes.model, operations.MODEL)
    paths.add("QUERY", "/models", routes.query, operations.QUERY, documented=False)
    paths.add("GET", f"{_MODEL}/versions", routes.versions, operations.VERSIONS)
    paths.add("GET", f"{_MODEL}/versions/{{version_id}}", routes.version, operations.VERSION)
    paths.add("GET", f"{_MODEL}/readme", routes.readme, operations.README)
    paths.add("GET", f"{_MODEL}/examples", routes.examples, operations.EXAMPLES)
    paths.add("GET", "/search", routes.search, operations.SEARCH)
    paths.add("GET", "/collections", routes.collections, operations.COLLECTIONS)
    paths.add("GET", "/collections/{slug}", routes.collection, operations.COLLECTION)
    paths.add("GET", "/deployments", routes.deployments, operations.DEPLOYMENTS)
    paths.add("GET", "/deployments/{owner}/{name}", routes.deployment, operations.DEPLOYMENT)
    paths.add("GET", "/hardware", routes.hardware, operations.HARDWARE)
    paths.add("GET", "/account", routes.account, operations.ACCOUNT)
    path = "/webhooks/default/secret"
    paths.add("GET", path, routes.webhook_secret, operations.WEBHOOK_SECRET, scopes=_RUN, tokens=False)
    for method, path in NOT_OFFERED:
        paths.add(method, path, routes.not_offered, operations.NOT_OFFERED, scopes=_READ, documented=False)


def _add_files(paths: _Paths, routes: FileRoutes) -> None:
    paths.add("POST", "/files", routes.create, operations.CREATE_FILE, scopes=_RUN, tokens=False)
    paths.add("GET", "/files", routes.list, operations.FILES, tokens=False)
    paths.add("GET", "/files/{file_id}", routes.get, operations.FILE, tokens=False)
    paths.add("DELETE", "/files/{file_id}", routes.delete, operations.DELETE_FILE, scopes=_RUN, tokens=False)
    # Clients build this path themselves, from any base URL.
    paths.add_open("/files/{file_id}/download", routes.download, operations.DOWNLOAD, elsewhere=ELSEWHERE)
