"""Deploys: the models that this server runs, as DeepInfra describes them."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

from corral.api.deploy_ids import deploy_id, find_deploy
from corral.api.doors.deepinfra.errors import NotFound
from corral.api.doors.deepinfra.wire_answers import Deploy, DeployStatus
from corral.catalog.catalog import Catalog
from corral.catalog.model import CatalogModel
from corral.core.accounts import Scope
from corral.core.caller import Caller
from corral.core.errors import InvalidRequest
from corral.deployments.status import DeploymentStatus

TASK: Final = "text-generation"
STATUSES: Final = ("initializing", "downloading", "deploying", "running", "stopped", "failed", "deleted")
"""Every status that DeepInfra's API has."""
_STATUS_BY_PHASE: Final[Mapping[str, DeployStatus]] = {
    "unloaded": "stopped",
    "waiting": "initializing",
    "loading": "deploying",
    "ready": "running",
    "restarting": "initializing",
    "failed": "failed",
}
_PENDING: Final = frozenset({"initializing", "deploying"})


def deployed(catalog: Catalog, wanted: str) -> CatalogModel:
    """Get the model whose deploy id is *wanted*.

    Raises:
        NotFound: there is none.
    """
    model = find_deploy(catalog, wanted)
    if model is None:
        raise NotFound(f"Deploy '{wanted}' not found.")
    return model


def read_statuses(given: Iterable[str]) -> frozenset[str]:
    """Parse ``?status=a,b``; every status if it names none.

    Raises:
        InvalidRequest: a status that no deploy has.
    """
    wanted = [status for text in given for status in text.split(",") if status]
    for status in wanted:
        if status not in STATUSES:
            raise InvalidRequest(f"'status' is '{status[:64]}', but must be of: {', '.join(STATUSES)}.", param="status")
    return frozenset(wanted or STATUSES)


def from_model(model: CatalogModel, deployment: DeploymentStatus, caller: Caller) -> Deploy:
    """The deploy of a model, with the reason of a failed load for callers with the scope ``admin``."""
    created_at = datetime.fromtimestamp(model.versions[0].created_at_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    status = _STATUS_BY_PHASE[deployment.state.phase]
    may_see_reason = Scope.ADMIN in caller.scopes
    return {
        "type": "llm",
        "deploy_id": deploy_id(model),
        "model_name": model.id,
        "version": model.versions[0].short_id,
        "task": TASK,
        "status": status,
        "fail_reason": deployment.state.reason if may_see_reason else "",
        "created_at": created_at,
        "updated_at": created_at,
        "instances": {"running": int(status == "running"), "pending": int(status in _PENDING)},
        "config": {"weights": model.weights, "stands_in": model.stands_in},
        "settings": {"min_instances": 1, "max_instances": 1},
    }
