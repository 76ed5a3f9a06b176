"""Shared layout of the dashboard pages."""

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from corral.core.accounts import Scope
from corral.web.pages import Pages, Visit


def draw(pages: Pages, visit: Visit, template: str, values: Mapping[str, Any], *, status: int = 200) -> Response:
    """Render a template of the dashboard for the signed-in user."""
    shared = {"sections": sections(visit.signed_in.scopes)}
    return pages.draw(visit, f"dashboard/{template}", {**shared, **values}, status=status)


def sections(scopes: frozenset[Scope]) -> list[tuple[str, str]]:
    """Name and URL of each dashboard page that a key with these scopes may see."""
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
