"""What the pages are given. Values only."""

from collections.abc import Callable
from dataclasses import dataclass

from corral.service.accounts import Accounts
from corral.service.console import Console
from corral.service.ports import Predictions
from corral.web.sessions import OneTimeLinks, Sessions


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSite:
    """One server as its pages see it."""

    predictions: Predictions
    accounts: Accounts
    console: Console
    sessions: Sessions
    links: OneTimeLinks
    clock: Callable[[], float]
    """Unix time in seconds."""
    public_url: str = ""
    """Where the server is reached; empty: as each browser reached it."""
