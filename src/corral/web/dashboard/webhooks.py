"""Page of an account's webhook signing secret: show on demand, rotate with an overlap."""

from typing import Final

from starlette.responses import Response

from corral.core.accounts import Scope
from corral.service.webhooks.webhooks import OVERLAP_S
from corral.web.dashboard.layout import draw
from corral.web.forms import Form
from corral.web.pages import Pages, Visit, redirect

WEBHOOKS: Final = "/dashboard/webhooks"
_SUBJECT: Final = "webhook secret"
_NOT_SURE: Final = "Tick the box first: receivers without the new secret will refuse webhooks once the old one ends."


class WebhookPages:
    """Page of the webhook secret."""

    def __init__(self, pages: Pages) -> None:
        """Add the routes."""
        self._pages = pages
        self._console = pages.dependencies.console
        pages.get(WEBHOOKS, self.page)
        pages.post(WEBHOOKS + "/secret", self.show_secret, page=WEBHOOKS)
        pages.post(WEBHOOKS + "/rotate", self.rotate, page=WEBHOOKS)

    async def page(self, visit: Visit) -> Response:
        """``GET /dashboard/webhooks``: with the secret once after a form asked for it."""
        visit.signed_in.require(Scope.INFERENCE, Scope.ADMIN)
        rotated = visit.request.query_params.get("done") == "rotated"
        return self._show(visit, secret=self._pages.noted(visit, _SUBJECT) or "", rotated=rotated)

    async def show_secret(self, visit: Visit, _sent: Form) -> Response:
        """``POST /dashboard/webhooks/secret``: not GET, so that no history or prefetch has the secret."""
        self._pages.note(visit, _SUBJECT, await self._console.webhook_secret(visit.signed_in))
        return redirect(WEBHOOKS)

    async def rotate(self, visit: Visit, sent: Form) -> Response:
        """``POST /dashboard/webhooks/rotate``: redirects to the page that shows the new secret once."""
        visit.signed_in.require(Scope.ADMIN)
        if not sent.get("sure"):
            return self._show(visit, fault=_NOT_SURE)
        self._pages.note(visit, _SUBJECT, await self._console.rotate_webhook_secret(visit.signed_in))
        return redirect(WEBHOOKS + "?done=rotated")

    def _show(self, visit: Visit, *, secret: str = "", rotated: bool = False, fault: str = "") -> Response:
        scopes = visit.signed_in.scopes
        values = {
            "secret": secret,
            "rotated": rotated,
            "fault": fault,
            "overlap_h": OVERLAP_S // 3600,
            "may_see": Scope.INFERENCE in scopes,
            "may_manage": Scope.ADMIN in scopes,
        }
        return draw(self._pages, visit, "webhooks.html", values, status=422 if fault else 200)
