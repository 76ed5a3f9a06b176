"""What pages depend on."""

from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request

from corral.api.dependencies import reached_at
from corral.service.accounts.api_keys import ApiKeys
from corral.service.accounts.sign_ins import SignIns
from corral.service.console import Console
from corral.service.deployments import DeploymentAdmin
from corral.service.ports import Predictions
from corral.web.sessions import OneTimeLinks, Sessions


@dataclass(frozen=True, slots=True, kw_only=True)
class PageDependencies:
    """Dependencies and options of all pages."""

    predictions: Predictions
    keys: ApiKeys
    console: Console
    sessions: Sessions
    sign_ins: SignIns
    links: OneTimeLinks
    deployments: DeploymentAdmin
    clock: Callable[[], float]
    """Unix time in seconds."""
    capability_key: bytes
    """Key that signs URLs which need no session."""
    replicate_aborted_status: bool = False
    """As in ``corral.api.dependencies``, for the JSON of a prediction."""
    public_url: str = ""
    """Base URL of this server; empty to use the address of each request."""

    def base_url(self, request: Request) -> str:
        """Base URL of this server as the browser reaches it, without a final slash."""
        return reached_at(request, self.public_url)
