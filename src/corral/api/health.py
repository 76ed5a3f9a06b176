"""Whether the server can answer, for load balancers and start scripts. Needs no key and tells nothing else."""

from collections.abc import Awaitable, Callable

import orjson
from starlette.requests import Request
from starlette.responses import Response

from corral.service.generate import Generation


def health(generation: Generation) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint: 200 once the model can answer, 503 before and while it cannot."""

    async def endpoint(_request: Request) -> Response:
        if generation.ready:
            return Response(orjson.dumps({"status": "ready"}), media_type="application/json")
        body = orjson.dumps({"status": "starting"})
        return Response(body, 503, headers={"retry-after": "1"}, media_type="application/json")

    return endpoint
