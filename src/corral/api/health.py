"""Whether the server can answer, for load balancers and start scripts. Needs no key and tells nothing else."""

from collections.abc import Awaitable, Callable
from typing import Literal

import orjson
from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import TypedDict  # pydantic reads typing's own from Python 3.12 on

from corral.service.ports import Predictions


class Health(TypedDict):
    """Where the server stands."""

    status: Literal["ready", "starting"]


def health(predictions: Predictions) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint: 200 once the model can answer, 503 before and while it cannot."""

    async def endpoint(_request: Request) -> Response:
        if predictions.ready:
            return Response(orjson.dumps({"status": "ready"}), media_type="application/json")
        body = orjson.dumps({"status": "starting"})
        return Response(body, 503, headers={"retry-after": "1"}, media_type="application/json")

    return endpoint
