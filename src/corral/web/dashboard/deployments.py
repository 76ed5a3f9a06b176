"""The deployments page, for operators: states, load, unload."""

from typing import Any, Final
from urllib.parse import urlencode

import structlog
from starlette.background import BackgroundTask
from starlette.responses import Response

from corral.core.accounts import Scope
from corral.core.caller import Caller
from corral.core.errors import CorralError, DeploymentInUse, InsufficientMemory, shown_memory
from corral.deployments.status import DeploymentStatus
from corral.web.dashboard.layout import draw
from corral.web.forms import Form, first
from corral.web.pages import Pages, Visit, redirect

DEPLOYMENTS: Final = "/dashboard/deployments"
_LOADABLE: Final = frozenset({"unloaded", "failed"})
_DONE: Final = {
    "load": "The load of “{}” has begun.",
    "unload": "“{}” was unloaded.",
    "drain": "“{}” is unloaded as soon as its runs are over.",
}

_log = structlog.get_logger(__name__)


class DeploymentPages:
    """The list, which refreshes itself, and the forms that load and unload."""

    def __init__(self, pages: Pages) -> None:
        """Add the routes."""
        self._pages = pages
        self._deployments = pages.dependencies.deployments
        pages.get(DEPLOYMENTS, self.listing)
        pages.get(DEPLOYMENTS + "/states", self.states)
        pages.post(DEPLOYMENTS + "/load", self.load, page=DEPLOYMENTS)
        pages.post(DEPLOYMENTS + "/unload", self.unload, page=DEPLOYMENTS)

    async def listing(self, visit: Visit) -> Response:
        """``GET /dashboard/deployments``, perhaps with what a form did, or with a used one that may be drained."""
        return self._show(visit)

    async def states(self, visit: Visit) -> Response:
        """``GET /dashboard/deployments/states``: the part of the page that refreshes in place."""
        return draw(self._pages, visit, "deployment_states.html", {"deployments": self._rows(visit)})

    async def load(self, visit: Visit, sent: Form) -> Response:
        """``POST /dashboard/deployments/load``."""
        name = first(sent, "name")
        try:
            await self._deployments.load(visit.signed_in, name)
        except InsufficientMemory as refused:
            return self._show(visit, fault=str(refused))
        return _back(done="load", name=name)

    async def unload(self, visit: Visit, sent: Form) -> Response:
        """``POST /dashboard/deployments/unload``; with ``drain``, the unload goes on behind the redirect."""
        name = first(sent, "name")
        if first(sent, "drain"):
            self._deployments.get(visit.signed_in, name)  # refuses now what the background could only log
            answer = _back(done="drain", name=name)
            answer.background = BackgroundTask(self._drain, visit.signed_in, name)
            return answer
        try:
            await self._deployments.unload(visit.signed_in, name)
        except DeploymentInUse:
            return _back(used=name)
        return _back(done="unload", name=name)

    async def _drain(self, caller: Caller, name: str) -> None:
        try:
            await self._deployments.unload(caller, name, drain=True)
        except CorralError as error:
            _log.warning("deployment_not_unloaded", deployment=name, reason=str(error))

    def _show(self, visit: Visit, *, fault: str = "") -> Response:
        rows = self._rows(visit)
        given = visit.request.query_params
        names = {row["name"] for row in rows}
        done = _DONE.get(given.get("done", "")) if given.get("name") in names else None
        used = given.get("used", "")
        values = {
            "deployments": rows,
            "done": None if done is None else done.format(given["name"]),
            "used": used if used in names else "",
            "fault": fault,
        }
        return draw(self._pages, visit, "deployments.html", values, status=409 if fault else 200)

    def _rows(self, visit: Visit) -> list[dict[str, Any]]:
        visit.signed_in.require(Scope.ADMIN)
        draining = self._deployments.draining
        return [_row(status, draining=status.name in draining) for status in self._deployments.list(visit.signed_in)]


def _row(status: DeploymentStatus, *, draining: bool) -> dict[str, Any]:
    phase = status.state.phase.value
    return {
        "name": status.name,
        "models": status.models,
        "phase": phase,
        "draining": draining,
        "percent": status.state.percent,
        "reason": status.state.reason,
        "load": status.load.value,
        "idle_unload_s": status.idle_unload_s,
        "weights": status.weights,
        "running": status.running,
        "waiting": status.waiting,
        "memory": shown_memory(status.memory_bytes),
        "may_load": phase in _LOADABLE,
        "may_unload": phase not in _LOADABLE and not draining,
    }


def _back(**query: str) -> Response:
    return redirect(f"{DEPLOYMENTS}?{urlencode(query)}")
