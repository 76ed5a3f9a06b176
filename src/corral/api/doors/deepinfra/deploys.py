"""A deploy is a running model of this server; its id follows from the model's name. Pure."""

from datetime import UTC, datetime
from typing import Final

from corral.api.doors.deepinfra.refusals import NotFound
from corral.api.doors.deepinfra.wire_answers import Deploy
from corral.catalog.catalog import Catalog
from corral.catalog.model import CatalogModel
from corral.core.errors import UnknownModel

TASK: Final = "text-generation"


def deployed(catalog: Catalog, wanted: str) -> CatalogModel:
    """The model whose deploy has the id *wanted*.

    Raises:
        NotFound: there is none.
    """
    try:
        return catalog.deployed(wanted)
    except UnknownModel:
        raise NotFound(f"Deploy '{wanted}' not found.") from None


def from_model(model: CatalogModel, *, ready: bool) -> Deploy:
    """The deploy of a model; *ready* is whether the engine can answer."""
    created_at = datetime.fromtimestamp(model.versions[0].created_at_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    running = int(ready)
    return {
        "type": "llm",
        "deploy_id": model.deploy_id,
        "model_name": model.id,
        "version": model.versions[0].commit,
        "task": TASK,
        "status": "running" if ready else "initializing",
        "fail_reason": "",
        "created_at": created_at,
        "updated_at": created_at,
        "instances": {"running": running, "pending": 1 - running},
        "config": {"weights": model.weights, "stands_in": model.stands_in},
        "settings": {"min_instances": 1, "max_instances": 1},
    }
