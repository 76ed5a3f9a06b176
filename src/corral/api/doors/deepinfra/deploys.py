"""A deploy is a running model of this server; its id follows from the model's name. Pure."""

import hashlib
from datetime import UTC, datetime
from typing import Final

from corral.api.doors.deepinfra.refusals import NotFound
from corral.api.doors.deepinfra.wire_answers import Deploy
from corral.catalog.catalog import Catalog
from corral.catalog.model import CatalogModel

TASK: Final = "text-generation"
_ALPHANUMERICS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_CHARS: Final = 16


def deploy_id(model: CatalogModel) -> str:
    """16 letters and digits, the same on every server and after every start."""
    number = int.from_bytes(hashlib.sha256(f"deploy\n{model.id}".encode()).digest())
    text = ""
    for _ in range(_ID_CHARS):
        number, digit = divmod(number, len(_ALPHANUMERICS))
        text += _ALPHANUMERICS[digit]
    return text


def deployed(catalog: Catalog, wanted: str) -> CatalogModel:
    """The model whose deploy has the id *wanted*.

    Raises:
        NotFound: there is none.
    """
    for model in catalog.models():
        if deploy_id(model) == wanted:
            return model
    raise NotFound(f"Deploy '{wanted}' not found.")


def from_model(model: CatalogModel, *, ready: bool) -> Deploy:
    """The deploy of a model; *ready* is whether the engine can answer."""
    created_at = datetime.fromtimestamp(model.versions[0].created_at_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    running = int(ready)
    return {
        "type": "llm",
        "deploy_id": deploy_id(model),
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
