"""Rate-limit handlers and add the rate limit headers to every response."""

from dataclasses import dataclass
from functools import wraps

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from corral.api.disconnect import ClientGone
from corral.api.door import Door, Handler
from corral.api.doors.replicate.rates import Kind, Rates
from corral.core.caller import Caller


@dataclass(frozen=True, slots=True, kw_only=True)
class Counting:
    """Wraps handlers in the rate limit."""

    rates: Rates

    def __call__(self, handler: Handler, door: Door, kind: Kind = Kind.OTHER) -> Handler:
        """Wrap *handler* in the rate limit of *kind*; errors are built by *door*."""

        @wraps(handler)
        async def counted(request: Request, caller: Caller) -> Response:
            standing = self.rates.take(caller, kind)
            if standing.refused is not None:
                response = door.refuse(standing.refused).response()
            else:
                response = await _answer(handler, request, caller, door)
            response.headers.update(standing.headers)
            return response

        return counted


async def _answer(handler: Handler, request: Request, caller: Caller, door: Door) -> Response:
    """Run the handler and convert its errors here, so that error responses have the headers too."""
    try:
        return await handler(request, caller)
    except (ClientGone, ClientDisconnect):
        raise
    except Exception as error:  # noqa: BLE001 - as at the outermost edge of every route
        return door.refuse(error, caller).response()
