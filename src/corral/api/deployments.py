"""``/corral/v1/deployments``: list, load and unload deployments. For API keys with the scope ``admin``."""

from collections.abc import Mapping
from typing import Any, Final, Literal, NotRequired

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict  # pydantic reads typing's own from Python 3.12 on

from corral.api.dependencies import Dependencies
from corral.api.door import Door
from corral.api.doors.openai.errors import from_error as from_other_error
from corral.api.operation import FOR_KEY, Operation
from corral.api.problems import Problem
from corral.core.accounts import Scope
from corral.core.caller import Caller
from corral.core.errors import (
    CorralError,
    DeploymentInUse,
    InsufficientMemory,
    InvalidRequest,
)
from corral.deployments.status import DeploymentStatus
from corral.service.deployments import DeploymentAdmin

PATH: Final = "/corral/v1/deployments"
_FLAGS: Final[Mapping[str, bool]] = {"true": True, "false": False}

Phase = Literal["unloaded", "waiting", "loading", "ready", "restarting", "failed"]


class DeploymentWorker(TypedDict):
    """One process that computes for a deployment."""

    state: Phase
    pid: int | None
    running: int
    deaths: int
    restarts: int


class DeploymentState(TypedDict):
    """A deployment as it is now."""

    name: str
    models: list[str]
    """Ids of the models that it computes for."""
    state: Phase
    progress_percent: float | None
    """Of the load; null if unknown, and in every other state."""
    fail_reason: str | None
    """Why the load failed; may name files of the server."""
    load: Literal["start", "on-demand"]
    idle_unload_s: float | None
    """Seconds without a run after which it is unloaded; null keeps it loaded."""
    engine: str
    weights: str | None
    """Storage of the weights, such as ``int8``; null before the first load."""
    context_tokens: int
    running: int
    """Sequences that are being computed."""
    waiting: int
    """Sequences that wait for a place, or for the load."""
    memory_bytes: int
    """Estimate of what it needs while it is loaded."""
    workers: list[DeploymentWorker]


class DeploymentStates(TypedDict):
    """Every deployment, in the order of the settings."""

    deployments: list[DeploymentState]


class DeploymentErrorObject(TypedDict):
    """What went wrong, as OpenAI's error object, and the numbers that the message has."""

    message: str
    type: str
    param: str | None
    code: str | None
    runs: NotRequired[int]
    """Runs that use the deployment."""
    needed_bytes: NotRequired[int]
    available_bytes: NotRequired[int]


class DeploymentError(TypedDict):
    """Body of every refusal."""

    error: DeploymentErrorObject


TYPES: Final = (DeploymentStates, DeploymentState, DeploymentError)
"""What the operations below name."""

_DESCRIPTIONS: Final = {
    404: "There is no deployment of that name",
    409: "Runs use the deployment, or there is not enough memory to load it",
    503: "The server is being stopped",
}
_NAME: Final = ({"name": "name", "in": "path", "required": True, "schema": {"type": "string"}},)
_DRAIN: Final[Mapping[str, Any]] = {
    "name": "drain",
    "in": "query",
    "description": "Wait until the runs that use the deployment are over, instead of refusing.",
    "schema": {"type": "boolean", "default": False},
}


def _operation(summary: str, *statuses: int, **more: Any) -> Operation:
    fields: dict[str, Any] = {"answer": DeploymentState, **more}
    return Operation(
        summary=summary,
        error=DeploymentError,
        statuses=(*FOR_KEY, *statuses),
        descriptions=_DESCRIPTIONS,
        **fields,
    )


LIST: Final = _operation("List the deployments", answer=DeploymentStates)
GET: Final = _operation("Get a deployment", 404, parameters=_NAME)
LOAD: Final = _operation("Begin to load a deployment", 404, 409, 503, parameters=_NAME, success=202)
UNLOAD: Final = _operation("Unload a deployment", 400, 404, 409, 503, parameters=(*_NAME, _DRAIN))


class _Routes:
    """Handlers of the routes."""

    def __init__(self, deployments: DeploymentAdmin) -> None:
        self._deployments = deployments

    async def deployments(self, _request: Request, caller: Caller) -> Response:
        """``GET /corral/v1/deployments``."""
        found = self._deployments.list(caller)
        return _json({"deployments": [answer_of(status) for status in found]})

    async def deployment(self, request: Request, caller: Caller) -> Response:
        """``GET /corral/v1/deployments/{name}``."""
        return _json(answer_of(self._deployments.get(caller, request.path_params["name"])))

    async def load(self, request: Request, caller: Caller) -> Response:
        """``POST /corral/v1/deployments/{name}/load``: 202 with the state, which the list shows as it goes on."""
        return _json(answer_of(await self._deployments.load(caller, request.path_params["name"])), status=202)

    async def unload(self, request: Request, caller: Caller) -> Response:
        """``POST /corral/v1/deployments/{name}/unload?drain=``: answers when it is unloaded."""
        drain = _read_flag(request, "drain")
        return _json(answer_of(await self._deployments.unload(caller, request.path_params["name"], drain=drain)))


def router(dependencies: Dependencies, deployments: DeploymentAdmin) -> APIRouter:
    """The routes, ready to be included."""
    door = Door(
        keys=dependencies.keys,
        from_error=from_error,
        router=APIRouter(tags=["deployments"]),
        catalog=dependencies.predictions.catalog,
    )
    routes = _Routes(deployments)
    # ``:path``: names of deployments may have a slash, as those of models do.
    one = PATH + "/{name:path}"
    for method, path, handler, operation in (
        ("GET", PATH, routes.deployments, LIST),
        ("POST", one + "/load", routes.load, LOAD),
        ("POST", one + "/unload", routes.unload, UNLOAD),
        ("GET", one, routes.deployment, GET),
    ):
        door.route(method, [path], handler, scopes=(Scope.ADMIN,), operation=operation, tokens=False)
    return door.router


def answer_of(status: DeploymentStatus) -> DeploymentState:
    """A deployment's status as JSON, for an operator: with the reason of a failed load."""
    return {
        "name": status.name,
        "models": list(status.models),
        "state": status.state.phase.value,
        "progress_percent": status.state.percent,
        "fail_reason": status.state.reason or None,
        "load": status.load.value,
        "idle_unload_s": status.idle_unload_s,
        "engine": status.engine,
        "weights": status.weights,
        "context_tokens": status.context_tokens,
        "running": status.running,
        "waiting": status.waiting,
        "memory_bytes": status.memory_bytes,
        "workers": [
            {
                "state": worker.state.phase.value,
                "pid": worker.pid,
                "running": worker.running,
                "deaths": worker.deaths,
                "restarts": worker.restarts,
            }
            for worker in status.workers
        ],
    }


def from_error(error: CorralError) -> Problem:
    """Map an error to the response: OpenAI's error object, and 409 for what the deployment's state forbids."""
    match error:
        case DeploymentInUse():
            return _conflict("deployment_in_use", error, runs=error.runs)
        case InsufficientMemory():
            sizes = {"needed_bytes": error.needed_bytes, "available_bytes": error.available_bytes}
            return _conflict("insufficient_memory", error, **sizes)
        case _:
            return from_other_error(error)


def _conflict(code: str, error: CorralError, **numbers: int) -> Problem:
    body = {"message": str(error), "type": "invalid_request_error", "param": None, "code": code, **numbers}
    return Problem(status=409, body={"error": body})


def _read_flag(request: Request, name: str) -> bool:
    """A query parameter that is true or false; false if it is not given.

    Raises:
        InvalidRequest: another value, or more than one.
    """
    values = request.query_params.getlist(name)
    if not values:
        return False
    if len(values) > 1 or values[0] not in _FLAGS:
        raise InvalidRequest(f"'{name}' is '{values[-1][:64]}', but must be one of: true, false.", param=name)
    return _FLAGS[values[0]]


def _json(body: object, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")
