"""The state of the server, for ``/health``, pages and the refusal of new runs."""

from typing import Final

from corral.catalog.model import CatalogModel
from corral.core.server_state import ServerState, ServerStatus
from corral.deployments.registry import Deployments
from corral.deployments.status import DeploymentStatus
from corral.service.runs.active import ActiveRuns
from corral.service.runs.settler import Settler
from corral.store.store import Store

_NONE_LOADED: Final = "No model could be loaded; `corral deployments list` shows the operator why."
_RECOVERING: Final = "Requests that were running at repeated crashes of the engine are tried one by one."


class ServerHealth:
    """Derives the server's state from its store, deployments and runs."""

    def __init__(self, store: Store, deployments: Deployments, runs: ActiveRuns, settler: Settler) -> None:
        self._store = store
        self._deployments = deployments
        self._runs = runs
        self._settler = settler

    @property
    def status(self) -> ServerStatus:
        """The first that holds of stopping, storage_failed, starting, recovering, ready."""
        if self._runs.is_stopping:
            return ServerStatus(state=ServerState.STOPPING)
        if (reason := self.storage_failure) is not None:
            return ServerStatus(state=ServerState.STORAGE_FAILED, reason=reason)
        if not self._deployments.ready:
            reason = _NONE_LOADED if self._deployments.failed else None
            return ServerStatus(state=ServerState.STARTING, reason=reason)
        if self._deployments.recovering:
            return ServerStatus(state=ServerState.RECOVERING, reason=_RECOVERING)
        return ServerStatus(state=ServerState.READY)

    def deployments(self) -> tuple[DeploymentStatus, ...]:
        """Snapshot of each deployment, in the order of the settings."""
        return self._deployments.statuses()

    def deployment_of(self, model: CatalogModel) -> DeploymentStatus:
        """Snapshot of the deployment that computes for *model*."""
        return self._deployments.status_of(model)

    @property
    def storage_failure(self) -> str | None:
        """Why the database cannot be written, as of the last attempt; None if it can."""
        return self._store.failure or self._settler.failure
