"""Log of a deploy for one account: one line per request with ids, counts and times, never any text."""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from corral.api.answer_ids import request_id
from corral.api.dependencies import Dependencies
from corral.api.doors.deepinfra.deploys import deployed
from corral.api.doors.deepinfra.models import to_json
from corral.api.doors.deepinfra.periods import read_moment
from corral.api.doors.deepinfra.wire_account import LogEntries
from corral.core.caller import Caller
from corral.core.errors import InvalidRequest
from corral.core.prediction import Prediction
from corral.service.ports import PageRequest

_DEFAULT_LINES: Final = 100
_MAX_LINES: Final = 1000
_PAGE: Final = 100
_MAX_SPAN_S: Final = 31 * 86400


class Logs:
    """Handler of the log route."""

    def __init__(self, dependencies: Dependencies) -> None:
        self._dependencies = dependencies

    async def query(self, request: Request, caller: Caller) -> Response:
        """``GET /v1/logs/query``: the newest lines in a half-open interval of time."""
        given = request.query_params
        model = deployed(self._dependencies.predictions.catalog, given.get("deploy_id", ""))
        caller.require_model(model.id)
        to_s = read_moment(given["to"], name="to") if given.get("to") else self._dependencies.clock() + 1
        from_s = read_moment(given["from"], name="from") if given.get("from") else to_s - _MAX_SPAN_S
        if not 0 <= to_s - from_s <= _MAX_SPAN_S:
            raise InvalidRequest("'from' must be before 'to', and at most 31 days.", param="from")
        found = await self._predictions(caller, model.id, from_s, to_s, limit=_limit(given.get("limit")))
        answer: LogEntries = {"entries": [_entry(prediction) for prediction in reversed(found)]}
        return to_json(answer)

    async def _predictions(
        self, caller: Caller, model: str, from_s: float, to_s: float, *, limit: int
    ) -> list[Prediction]:
        found: list[Prediction] = []
        more = True
        while more and len(found) < limit:
            wanted = PageRequest(
                before=found[-1].id if found else None,
                created_from_ms=int(1000 * from_s),
                created_before_ms=int(1000 * to_s),
                model=model,
                limit=min(_PAGE, limit - len(found)),
            )
            page = await self._dependencies.predictions.page(caller, wanted)
            more = len(page) == wanted.limit
            found += page
        return found


def _limit(text: str | None) -> int:
    if text is None:
        return _DEFAULT_LINES
    if text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= _MAX_LINES:
        return int(text)
    raise InvalidRequest(f"'limit' must be 1 to {_MAX_LINES}.", param="limit")


def _entry(prediction: Prediction) -> list[str]:
    ended_at_ms = prediction.completed_at_ms
    took = "" if ended_at_ms is None else f" runtime_ms={ended_at_ms - prediction.created_at_ms}"
    line = (
        f"{request_id(prediction.id)} {prediction.status} door={prediction.door} "
        f"input_tokens={prediction.prompt_tokens} output_tokens={prediction.completion_tokens}{took}"
    )
    return [f"{prediction.created_at_ms / 1000:.3f}", line]
