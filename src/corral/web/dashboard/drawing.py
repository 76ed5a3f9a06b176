"""What the dashboard's pages are drawn with: the way between them, for what the signed-in key may see."""

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from corral.core.accounts import Scope
from corral.web.pages import Pages, Visit


def draw(pages: Pages, visit: Visit, template: str, values: Mapping[str, Any], *, status: int = 200) -> Response:
    """A template of the dashboard as a page for whoever is signed in."""
    shared = {"sections": sections(visit.signed_in.scopes)}
    return pages.draw(visit, f"dashboard/{template}", {**shared, **values}, status=status)


def sections(scopes: frozenset[Scope]) -> list[tuple[str, str]]:
    """The dashboard's pages that a key with these scopes may see: name and address."""
    may_read, may_run, may_manage = (scope in scopes for scope in (Scope.READ, Scope.INFERENCE, Scope.ADMIN))
    found = (
        ("Usage", "/dashboard", may_read),
        ("Predictions", "/p", may_read or may_run),
        ("API keys", "/dashboard/keys", may_read or may_manage),
        ("Webhooks", "/dashboard/webhooks", may_run or may_manage),
        ("Accounts", "/dashboard/accounts", may_manage),
        ("Deployments", "/dashboard/deployments", may_manage),
    )
    return [(name, address) for name, address, seen in found if seen]
