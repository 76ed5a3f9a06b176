"""Account pages for administrators: list, create, add credit, set limits."""

from collections.abc import Mapping
from typing import Final

from starlette.responses import Response

from corral.core.accounts import Limits, Scope
from corral.core.errors import IdempotencyConflict, InsufficientCredit, InvalidRequest
from corral.core.pricing import usd
from corral.web.dashboard.form_values import FormValues
from corral.web.dashboard.layout import draw
from corral.web.forms import Form, idempotency_key, new_idempotency_key
from corral.web.pages import Pages, Visit, redirect

ACCOUNTS: Final = "/dashboard/accounts"
_FIELDS: Final[Mapping[str, str]] = {
    "name": "name",
    "amount": "credit",
    "spend_per_day_nusd": "spend_per_day",
    "spend_per_month_nusd": "spend_per_month",
    "requests_per_minute": "requests_per_minute",
    "tokens_per_minute": "tokens_per_minute",
    "concurrent_runs": "concurrent_runs",
}
_SENT_BEFORE: Final = (
    "This form was sent before with other values, and they are stored. If you want to give more credit, send it again."
)
_INCOMPLETE: Final = "The form is not complete. It was loaded again: send it once more."
_DONE: Final = {"credit": "The credit was given.", "limits": "The limits were set.", "made": "The account was made."}


class AccountPages:
    """List of accounts, form for a new one, and page of one account."""

    def __init__(self, pages: Pages) -> None:
        """Add the routes."""
        self._pages = pages
        self._console = pages.dependencies.console
        one = ACCOUNTS + "/{account_id}"
        pages.get(ACCOUNTS, self.listing)
        pages.post(ACCOUNTS, self.create)
        pages.get(one, self.account)
        pages.post(one + "/credit", self.credit, page=one)
        pages.post(one + "/limits", self.limits, page=one)

    async def listing(self, visit: Visit) -> Response:
        """``GET /dashboard/accounts``."""
        return await self._list(visit, FormValues({}))

    async def create(self, visit: Visit, sent: Form) -> Response:
        """``POST /dashboard/accounts``: redirects to the new account, or shows the form with its errors."""
        visit.signed_in.require(Scope.ADMIN)
        form = FormValues(sent)
        name, credit_nusd, limits = form.text("name", needed=True), form.usd("credit"), _limits(form)
        if not form.errors:
            try:
                made = await self._console.create_account(
                    visit.signed_in,
                    name,
                    unlimited=form.ticked("unlimited"),
                    limits=limits,
                    credit_nusd=credit_nusd or 0,
                )
            except InvalidRequest as refused:
                form.refuse(refused, fields=_FIELDS, otherwise="name")
            else:
                return redirect(f"{ACCOUNTS}/{made.id}?done=made")
        return await self._list(visit, form)

    async def account(self, visit: Visit) -> Response:
        """``GET /dashboard/accounts/{account_id}``."""
        return await self._show(visit, credit=FormValues({}), limits=FormValues({}))

    async def credit(self, visit: Visit, sent: Form) -> Response:
        """``POST /dashboard/accounts/{account_id}/credit``; a negative amount withdraws credit.

        A form that is sent twice, for example by a double click, gives credit once.
        """
        visit.signed_in.require(Scope.ADMIN)
        account_id, form = visit.request.path_params["account_id"], FormValues(sent)
        form.text("amount", needed=True)
        amount_nusd, note, once = form.usd("amount", signed=True), form.text("note") or None, idempotency_key(sent)
        if once is None:
            form.errors.setdefault("amount", _INCOMPLETE)
        elif amount_nusd is not None and not form.errors:
            try:
                await self._console.credit(visit.signed_in, account_id, amount_nusd, note=note, idempotency_key=once)
            except InvalidRequest as refused:
                form.refuse(refused, fields={}, otherwise="amount")
            except InsufficientCredit as refused:
                form.errors["amount"] = str(refused)
            except IdempotencyConflict:
                form.errors["amount"] = _SENT_BEFORE
            else:
                return redirect(f"{ACCOUNTS}/{account_id}?done=credit")
        return await self._show(visit, credit=form, limits=FormValues({}))

    async def limits(self, visit: Visit, sent: Form) -> Response:
        """``POST /dashboard/accounts/{account_id}/limits``; empty fields remove limits."""
        visit.signed_in.require(Scope.ADMIN)
        account_id, form = visit.request.path_params["account_id"], FormValues(sent)
        limits = _limits(form)
        if not form.errors:
            try:
                changes = {name: getattr(limits, name) for name in Limits.__slots__}
                await self._console.change_limits(visit.signed_in, account_id, changes)
            except InvalidRequest as refused:
                form.refuse(refused, fields=_FIELDS, otherwise="spend_per_day")
            else:
                return redirect(f"{ACCOUNTS}/{account_id}?done=limits")
        return await self._show(visit, credit=FormValues({}), limits=form)

    async def _list(self, visit: Visit, form: FormValues) -> Response:
        values = {"accounts": await self._console.accounts(visit.signed_in), "form": form, "now": shown(Limits())}
        return draw(self._pages, visit, "accounts.html", values, status=form.status)

    async def _show(self, visit: Visit, *, credit: FormValues, limits: FormValues) -> Response:
        account_id = visit.request.path_params["account_id"]
        account, spend = await self._console.any_account(visit.signed_in, account_id)
        values = {
            "account": account,
            "spend": spend,
            "credit_form": credit,
            "once": new_idempotency_key(),
            "limits_form": limits,
            "now": shown(account.limits),
            "done": _DONE.get(visit.request.query_params.get("done", "")),
        }
        return draw(self._pages, visit, "account.html", values, status=max(credit.status, limits.status))


def shown(limits: Limits) -> dict[str, str]:
    """Limits as form values."""
    return {
        "spend_per_day": _dollars(limits.spend_per_day_nusd),
        "spend_per_month": _dollars(limits.spend_per_month_nusd),
        "requests_per_minute": str(limits.requests_per_minute or ""),
        "tokens_per_minute": str(limits.tokens_per_minute or ""),
        "concurrent_runs": str(limits.concurrent_runs or ""),
    }


def _dollars(limit_nusd: int | None) -> str:
    return "" if limit_nusd is None else usd(limit_nusd)


def _limits(form: FormValues) -> Limits:
    return Limits(
        spend_per_day_nusd=form.usd("spend_per_day"),
        spend_per_month_nusd=form.usd("spend_per_month"),
        requests_per_minute=form.count("requests_per_minute"),
        tokens_per_minute=form.count("tokens_per_minute"),
        concurrent_runs=form.count("concurrent_runs"),
    )
