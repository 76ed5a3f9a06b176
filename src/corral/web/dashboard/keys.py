"""API key pages: list, create, show once, revoke."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from starlette.responses import Response

from corral.core.accounts import ApiKey, Scope
from corral.core.errors import InvalidRequest
from corral.service.accounts.api_keys import KeyTerms
from corral.web.dashboard.form_values import FormValues
from corral.web.dashboard.layout import draw
from corral.web.forms import Form
from corral.web.pages import Pages, Visit, redirect

KEYS: Final = "/dashboard/keys"
SCOPES: Final = (
    (Scope.INFERENCE, "run models, and see and cancel the account's predictions"),
    (Scope.READ, "see predictions, usage and credit"),
    (Scope.ADMIN, "manage all accounts and keys"),
)
_SHOWN: Final = ("id", "name", "models", "spend_limit_nusd", "spent_nusd", "privacy", "created_at_ms")
_FIELDS: Final[Mapping[str, str]] = {
    "name": "name",
    "scopes": "scopes",
    "expires": "expires",
    "spend_limit_nusd": "spend_limit",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Owner:
    """Account whose keys are shown."""

    id: str
    name: str
    own: bool


class KeyPages:
    """List of keys, form for a new one, and confirmation before revoking."""

    def __init__(self, pages: Pages) -> None:
        """Add the routes."""
        self._pages = pages
        self._console = pages.dependencies.console
        self._models = tuple(model.id for model in pages.dependencies.predictions.catalog.models())
        pages.get(KEYS, self.listing)
        pages.post(KEYS, self.create)
        pages.get(KEYS + "/{key_id}/revoke", self.confirm)
        pages.post(KEYS + "/{key_id}/revoke", self.revoke)

    async def listing(self, visit: Visit) -> Response:
        """``GET /dashboard/keys``, of another account with ``?account=``; with ``?made=`` after a key was created."""
        owner = await self._owner(visit)
        made = await self._made(visit, owner, visit.request.query_params.get("made", ""))
        return await self._show(visit, owner, FormValues({}), made=made)

    async def create(self, visit: Visit, sent: Form) -> Response:
        """``POST /dashboard/keys``: redirects to the list, which shows the secret once, or shows the form with its
        errors.
        """
        visit.signed_in.require(Scope.ADMIN)
        owner, form = await self._owner(visit), FormValues(sent)
        terms = KeyTerms(
            name=form.text("name", needed=True),
            scopes=frozenset(scope for scope in Scope if scope in form.many("scopes")),
            models=form.many("models") or None,
            expires_at_ms=form.day_ms("expires"),
            spend_limit_nusd=form.usd("spend_limit"),
            privacy=form.ticked("privacy"),
        )
        if unknown := set(form.many("models")) - set(self._models):
            form.errors["models"] = f"There is no model '{min(unknown)}'."
        if not form.errors:
            try:
                key, secret = await self._console.create_key(visit.signed_in, terms, owner.id)
            except InvalidRequest as refused:
                form.refuse(refused, fields=_FIELDS, otherwise="name")
            else:
                self._pages.note(visit, key.id, secret)
                query = {"made": key.id} if owner.own else {"account": owner.id, "made": key.id}
                return redirect(f"{KEYS}?{urlencode(query)}")
        return await self._show(visit, owner, form)

    async def confirm(self, visit: Visit) -> Response:
        """``GET /dashboard/keys/{key_id}/revoke``: confirmation page."""
        visit.signed_in.require(Scope.ADMIN)
        key = await self._console.key(visit.signed_in, visit.request.path_params["key_id"])
        values = {"key": key, "signed_in_with": key.id == visit.signed_in.key_id, "back": _back(visit, key)}
        return draw(self._pages, visit, "revoke.html", values)

    async def revoke(self, visit: Visit, _sent: Form) -> Response:
        """``POST /dashboard/keys/{key_id}/revoke``: redirects to the list."""
        key = await self._console.revoke_key(visit.signed_in, visit.request.path_params["key_id"])
        return redirect(_back(visit, key))

    async def _owner(self, visit: Visit) -> _Owner:
        caller = visit.signed_in
        account_id = visit.request.query_params.get("account", caller.account_id)
        if account_id == caller.account_id:
            return _Owner(id=account_id, name="", own=True)
        account, _ = await self._console.any_account(caller, account_id)
        return _Owner(id=account_id, name=account.name, own=False)

    async def _made(self, visit: Visit, owner: _Owner, key_id: str) -> ApiKey | None:
        """Get the key that was just created for *owner*, by the id in the URL."""
        keys = await self._console.keys(visit.signed_in, owner.id) if key_id else []
        return next((key for key in keys if key.id == key_id), None)

    async def _show(self, visit: Visit, owner: _Owner, form: FormValues, *, made: ApiKey | None = None) -> Response:
        caller = visit.signed_in
        values = {
            "owner": owner,
            "keys": [self._shown(key, caller.key_id) for key in await self._console.keys(caller, owner.id)],
            "form": form,
            "scopes": SCOPES,
            "models": self._models,
            "may_manage": Scope.ADMIN in caller.scopes,
            "made": made,
            "secret": None if made is None else self._pages.noted(visit, made.id),
        }
        return draw(self._pages, visit, "keys.html", values, status=form.status)

    def _shown(self, key: ApiKey, here_id: str) -> dict[str, Any]:
        over = self._console.is_over(key)
        state = "revoked" if key.revoked_at_ms is not None else "expired" if over else "active"
        return {
            **{name: getattr(key, name) for name in _SHOWN},
            "scopes": sorted(key.scopes),
            "over": over,
            "state": state,
            "until_ms": key.revoked_at_ms or key.expires_at_ms,
            "here": key.id == here_id,
        }


def _back(visit: Visit, key: ApiKey) -> str:
    own = key.account_id == visit.signed_in.account_id
    return KEYS if own else f"{KEYS}?account={key.account_id}"
