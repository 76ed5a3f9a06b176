"""What the pages are given. Values only."""

from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request

from corral.api.site import reached_at
from corral.service.accounts.accounts import Accounts
from corral.service.accounts.sign_ins import SignIns
from corral.service.console import Console
from corral.service.deployments import DeploymentAdmin
from corral.service.ports import Predictions
from corral.web.sessions import OneTimeLinks, Sessions


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSite:
    """One server as its pages see it."""

    predictions: Predictions
    accounts: Accounts
    console: Console
    sessions: Sessions
    sign_ins: SignIns
    links: OneTimeLinks
    deployments: DeploymentAdmin
    clock: Callable[[], float]
    """Unix time in seconds."""
    capability_key: bytes
    """What addresses that need no session are made with."""
    replicate_aborted_status: bool = False
    """As in ``corral.api.site``, for the JSON of a prediction."""
    public_url: str = ""
    """Where the server is reached; empty: as each browser reached it."""

    def base_url(self, request: Request) -> str:
        """Where this browser, or the clients that it shows code for, reach the server; without a final slash."""
        return reached_at(request, self.public_url)
