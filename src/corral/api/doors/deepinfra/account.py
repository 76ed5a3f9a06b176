"""Account routes: the current user, API keys, scoped JWTs, costs and usage."""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from corral.api.answer_ids import prediction_ids
from corral.api.body import read_document
from corral.api.dependencies import Dependencies
from corral.api.doors.deepinfra.answers import dollars
from corral.api.doors.deepinfra.describe import TYPE
from corral.api.doors.deepinfra.errors import NameTaken, NotFound, NotOffered
from corral.api.doors.deepinfra.models import to_json
from corral.api.doors.deepinfra.periods import Month, month_of, months, read_month
from corral.api.doors.deepinfra.wire_account import (
    JwtTerms,
    Me,
    NewScopedJwt,
    NewToken,
    RequestCost,
    RequestIds,
    Token,
    UsageItem,
    UsageMonth,
    UsageMonths,
)
from corral.core.accounts import ApiKey, Scope
from corral.core.caller import Caller
from corral.core.errors import InvalidRequest, PermissionDenied, UnknownPrediction
from corral.service.accounts.api_keys import KeyTerms
from corral.service.accounts.scoped_tokens import MAX_LIFE_S, TokenTerms
from corral.service.accounts.usage import Usage

_CENTS_PER_USD: Final = 100


class Account:
    """Handlers of the account routes."""

    def __init__(self, dependencies: Dependencies) -> None:
        self._dependencies = dependencies
        self._accounts = dependencies.accounts
        self._api_keys = dependencies.keys

    async def me(self, _request: Request, caller: Caller) -> Response:
        """``GET /v1/me``. The account's name is the only personal data that Corral stores."""
        account = await self._accounts.get(caller.account_id)
        answer: Me = {
            "uid": account.id,
            "email_verified": False,
            "account_setup": True,
            "display_name": account.name,
            "provider": "corral",
            "is_admin": Scope.ADMIN in caller.scopes,
            "name": account.name,
            "is_business_account": False,
            "email": "",
            "picture": "",
            "first_name": "",
            "last_name": "",
            "country": "",
            "company": "",
            "website": "",
            "title": "",
        }
        return to_json(answer)

    async def rate_limit(self, _request: Request, caller: Caller) -> Response:
        """``GET /v1/me/rate_limit``."""
        limits = (await self._accounts.get(caller.account_id)).limits
        return to_json(
            {"rate_limit": self._dependencies.concurrent_per_model or None, "tpm_rate_limit": limits.tokens_per_minute}
        )

    async def tokens(self, _request: Request, caller: Caller) -> Response:
        """``GET /v1/api-tokens``."""
        return to_json([_shown(key) for key in await self._keys(caller)])

    async def token(self, request: Request, caller: Caller) -> Response:
        """``GET /v1/api-tokens/{token}``."""
        return to_json(_shown(await self._key(request, caller)))

    async def create_token(self, request: Request, caller: Caller) -> Response:
        """``POST /v1/api-tokens``: create an API key of the account with the scopes inference and read."""
        document = await read_document(request, limit_bytes=self._dependencies.body_limit_bytes)
        wanted = NewToken.model_validate(document)
        if any(key.name == wanted.name for key in await self._keys(caller)):
            raise NameTaken(f"There is a token called '{wanted.name}' already.")
        key, secret = await self._api_keys.create(caller.account_id, KeyTerms(name=wanted.name))
        return to_json({**_shown(key), "token": secret})

    async def delete_token(self, request: Request, caller: Caller) -> Response:
        """``DELETE /v1/api-tokens/{token}``: revoke the key."""
        key = await self._key(request, caller)
        return to_json(_shown(await self._api_keys.revoke(key.id)))

    async def sign_jwt(self, request: Request, caller: Caller) -> Response:
        """``POST /v1/scoped-jwt``: signed with the caller's own key; an administrator may name any key of the
        account.
        """
        document = await read_document(request, limit_bytes=self._dependencies.body_limit_bytes)
        wanted = NewScopedJwt.model_validate(document)
        if caller.token is not None:
            raise PermissionDenied("Scoped tokens cannot create tokens; use the API key.")
        name = wanted.api_token_name if wanted.api_key_name is None else wanted.api_key_name
        keys = [key for key in await self._keys(caller) if name in (None, key.name, key.id)]
        own = next((key for key in keys if key.id == caller.key_id), None)
        signer = own or (keys[-1] if keys and name is not None else None)
        if signer is None:
            raise NotFound(f"There is no token called '{name}'.")
        if own is None and Scope.ADMIN not in caller.scopes:
            raise PermissionDenied("This API key may sign with itself only, for it lacks the scope 'admin'.")
        terms = TokenTerms(
            models=None if wanted.models is None else tuple(wanted.models),
            expires_at_s=self._expiry(wanted),
            spending_limit=wanted.spending_limit,
        )
        return to_json({"token": await self._api_keys.sign_token(caller.account_id, signer.id, terms)})

    async def read_jwt(self, request: Request, caller: Caller) -> Response:
        """``GET /v1/scoped-jwt?jwtoken=``: the limits of a token of this account."""
        found = await self._api_keys.read_token(request.query_params.get("jwtoken", ""))
        if found is None or found[0].account_id != caller.account_id:
            raise NotFound("The token is not valid, or not any more.")
        terms = found[1]
        limit = terms.spending_limit
        answer: JwtTerms = {
            "expires_at": terms.expires_at_s,
            "models": None if terms.models is None else list(terms.models),
            "spending_limit": None if limit is None else float(limit),
        }
        return to_json(answer)

    async def request_costs(self, request: Request, caller: Caller) -> Response:
        """``POST /v1/request-costs``: costs of the account's finished requests, by any id that an API gave them."""
        document = await read_document(request, limit_bytes=self._dependencies.body_limit_bytes)
        wanted = RequestIds.model_validate(document)
        costs = [await self._cost(caller, request_id) for request_id in wanted.request_ids]
        return to_json({"requests": [cost for cost in costs if cost is not None]})

    async def usage(self, request: Request, caller: Caller) -> Response:
        """``GET /payment/usage``."""
        return to_json(await self._usage(request, caller, key_id=None))

    async def usage_of_token(self, request: Request, caller: Caller) -> Response:
        """``GET /payment/usage/{token}``."""
        key = await self._key(request, caller)
        return to_json(await self._usage(request, caller, key_id=key.id))

    async def fixed(self, _request: Request, _caller: Caller) -> Response:
        """Refuse the routes for cards, invoices and billing addresses."""
        raise NotOffered("Accounts and credit of this server are its operator's: see 'corral account'.")

    async def _keys(self, caller: Caller) -> list[ApiKey]:
        now_ms = 1000 * self._dependencies.clock()
        return [
            key
            for key in await self._api_keys.list(caller.account_id)
            if key.revoked_at_ms is None and (key.expires_at_ms is None or key.expires_at_ms > now_ms)
        ]

    async def _key(self, request: Request, caller: Caller) -> ApiKey:
        """Get the account's key that the path names, by its id or by its secret."""
        wanted = request.path_params["token"]
        found = await self._api_keys.authenticate(wanted)
        key_id = wanted if found is None or found.token is not None else found.key_id
        for key in await self._keys(caller):
            if key.id == key_id:
                return key
        raise NotFound("There is no such token.")

    def _expiry(self, wanted: NewScopedJwt) -> int:
        now_s = int(self._dependencies.clock())
        if wanted.expires_at is None:
            return now_s + (MAX_LIFE_S - 1 if wanted.expires_delta is None else wanted.expires_delta)
        if not now_s < wanted.expires_at < now_s + MAX_LIFE_S:
            raise InvalidRequest("'expires_at' must be within the next year.", param="expires_at")
        return wanted.expires_at

    async def _cost(self, caller: Caller, request_id: str) -> RequestCost | None:
        for prediction_id in prediction_ids(request_id):
            try:
                found = await self._dependencies.predictions.get(caller, prediction_id)
            except UnknownPrediction:
                continue
            return None if found.cost_nusd is None else {"requestId": request_id, "costNanoUsd": found.cost_nusd}
        return None

    async def _usage(self, request: Request, caller: Caller, *, key_id: str | None) -> UsageMonths:
        now_s = self._dependencies.clock()
        if "from" not in request.query_params:
            raise InvalidRequest("'from' is missing.", param="from")
        first = read_month(request.query_params["from"], name="from", now_s=now_s)
        last = read_month(request.query_params.get("to", "current"), name="to", now_s=now_s)
        account = await self._accounts.get(caller.account_id)
        asked = [await self._month(caller.account_id, month, key_id=key_id) for month in months(first, last)]
        return {"months": asked, "initial_month": str(month_of(account.created_at_ms / 1000))}

    async def _month(self, account_id: str, month: Month, *, key_id: str | None) -> UsageMonth:
        sums = await self._dependencies.usage.totals(
            account_id=account_id,
            by=("model", "key_id"),
            since_day=month.first_day.isoformat(),
            until_day=month.last_day.isoformat(),
        )
        by_model: dict[str, list[Usage]] = {}
        for each in sums:
            if key_id in (None, each.key_id):
                by_model.setdefault(each.model or "", []).append(each)
        total_nusd = sum(each.cost_nusd for parts in by_model.values() for each in parts)
        return {
            "period": str(month),
            "interval": {"fr": month.begins_at_s, "to": month.back(-1).begins_at_s},
            "items": [_item(model, parts) for model, parts in by_model.items()],
            "total_cost": dollars(total_nusd * _CENTS_PER_USD),
            "invoice_id": "",
        }


def _shown(key: ApiKey) -> Token:
    return {
        "token": key.id,
        "token_id": key.id,
        "name": key.name,
        "created_at": key.created_at_ms // 1000,
        "allowed_ips": None,
    }


def _item(model: str, parts: list[Usage]) -> UsageItem:
    input_tokens = sum(each.prompt_tokens for each in parts)
    output_tokens = sum(each.completion_tokens for each in parts)
    cost_nusd = sum(each.cost_nusd for each in parts)
    units = input_tokens + output_tokens
    return {
        "model": {"provider": model.partition("/")[0], "model_name": model, "task": TYPE},
        "units": units,
        "rate": dollars(cost_nusd * _CENTS_PER_USD // units if units else 0),
        "cost": dollars(cost_nusd * _CENTS_PER_USD),
        "pricing_type": "tokens",
        "requests": sum(each.predictions for each in parts),
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
    }
