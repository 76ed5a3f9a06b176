"""``GET /health``: the state of the server, for load balancers and start scripts. Needs no API key."""

from collections.abc import Awaitable, Callable
from typing import Literal, NotRequired

import orjson
from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict  # pydantic reads typing's own from Python 3.12 on

from corral.deployments.status import public_text
from corral.service.ports import Predictions


class DeploymentHealth(TypedDict):
    """A deployment; nothing of it but what anyone may see."""

    name: str
    state: str
    """``unloaded``, ``waiting``, ``loading 40 %``, ``ready``, ``restarting`` or ``failed``."""


class Health(TypedDict):
    """The state of the server."""

    status: Literal["ready", "starting", "recovering", "storage_failed", "stopping"]
    reason: NotRequired[str]
    """Why it is not ready, where there is more to say than the status."""
    deployments: list[DeploymentHealth]


def health(predictions: Predictions) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint: 200 while a deployment can answer, if need be after a load on demand; else 503."""

    async def endpoint(_request: Request) -> Response:
        status = predictions.status
        body: Health = {
            "status": status.state.value,
            "deployments": [
                {"name": each.name, "state": public_text(each.state)} for each in predictions.deployments()
            ],
        }
        if status.reason is not None:
            body["reason"] = status.reason
        code, headers = (200, {}) if status.is_ready else (503, {"retry-after": "1"})
        return Response(orjson.dumps(body), code, headers=headers, media_type="application/json")

    return endpoint
