"""Deployments for an operator: list, load and unload them."""

from collections import Counter

from corral.core.accounts import Scope
from corral.core.caller import Caller
from corral.core.errors import LoadFailed
from corral.deployments.registry import Deployments
from corral.deployments.status import DeploymentStatus
from corral.engines.stats import EnginePhase


def check_not_failed(status: DeploymentStatus, caller: Caller, model: str) -> None:
    """Refuse a request to *model* if the load of its deployment failed.

    Raises:
        LoadFailed: with the reason for callers with the scope ``admin``, which may name files; without it for others.
    """
    if status.state.phase is EnginePhase.FAILED:
        raise LoadFailed(model, reason=status.state.reason if Scope.ADMIN in caller.scopes else None)


class DeploymentAdmin:
    """Use cases of the deployments pages, commands and HTTP routes. Every one requires the scope ``admin``."""

    def __init__(self, deployments: Deployments) -> None:
        self._deployments = deployments
        self._draining: Counter[str] = Counter()

    @property
    def draining(self) -> frozenset[str]:
        """Names of the deployments whose ``unload`` waits for their runs."""
        return frozenset(+self._draining)

    def list(self, caller: Caller) -> tuple[DeploymentStatus, ...]:
        """Snapshot of each deployment, in the order of the settings.

        Raises:
            PermissionDenied: the key lacks the scope.
        """
        caller.require(Scope.ADMIN)
        return self._deployments.statuses()

    def get(self, caller: Caller, name: str) -> DeploymentStatus:
        """Snapshot of one deployment.

        Raises:
            PermissionDenied: the key lacks the scope.
            UnknownDeployment: there is none of that name.
        """
        caller.require(Scope.ADMIN)
        return self._deployments.status(name)

    async def load(self, caller: Caller, name: str) -> DeploymentStatus:
        """Begin to load a deployment and return its status now.

        Raises:
            PermissionDenied: the key lacks the scope.
            UnknownDeployment: there is none of that name.
        """
        caller.require(Scope.ADMIN)
        await self._deployments.load(name)
        return self._deployments.status(name)

    async def unload(self, caller: Caller, name: str, *, drain: bool = False) -> DeploymentStatus:
        """Unload a deployment and return its status afterwards; see ``Deployments.unload``.

        Raises:
            PermissionDenied: the key lacks the scope.
            UnknownDeployment: there is none of that name.
            DeploymentInUse: runs use it, and *drain* is false.
        """
        caller.require(Scope.ADMIN)
        self._deployments.status(name)
        self._draining[name] += drain
        try:
            await self._deployments.unload(name, drain=drain)
        finally:
            self._draining[name] -= drain
        return self._deployments.status(name)
