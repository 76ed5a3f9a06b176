"""``GET /health``: the state of the server, for load balancers and start scripts. Needs no API key."""

from collections.abc import Awaitable, Callable
from typing import Literal, NotRequired

import orjson
from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict  # pydantic reads typing's own from Python 3.12 on

from corral.service.ports import Predictions


class Health(TypedDict):
    """The state of the server."""

    status: Literal["ready", "starting", "recovering", "storage_failed", "stopping"]
    reason: NotRequired[str]
    """Why it is not ready, where there is more to say than the status."""


def health(predictions: Predictions) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint: 200 while the model can answer, otherwise 503 with ``Retry-After``."""

    async def endpoint(_request: Request) -> Response:
        status = predictions.status
        body = {"status": status.state} | ({} if status.reason is None else {"reason": status.reason})
        code, headers = (200, {}) if status.is_ready else (503, {"retry-after": "1"})
        return Response(orjson.dumps(body), code, headers=headers, media_type="application/json")

    return endpoint
