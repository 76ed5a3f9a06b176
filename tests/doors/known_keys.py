"""In-memory API keys with different scopes, and dependencies of doors with them. ``SECRET`` has every scope."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from corral.api.dependencies import Dependencies
from corral.core.accounts import Account, ApiKey, Limits, Scope
from corral.core.caller import Caller
from corral.core.errors import InvalidRequest
from corral.service.accounts.api_keys import KeyTerms
from corral.service.accounts.scoped_tokens import TokenTerms
from corral.service.accounts.usage import Dimension, Usage
from corral.service.ports import Predictions
from tests.doors.live_server import SECRET
from tests.doors.scripted_predictions import CREATED, MODEL

READ_ONLY = "corral-read-only-key"
RUN_ONLY = "corral-run-only-key"
ONE_MODEL = "corral-one-model-key"


class KnownKeys:
    """In-memory implementation of ``KeyManager``. Changes are not stored."""

    def __init__(self) -> None:
        both = frozenset({Scope.INFERENCE, Scope.READ})
        self._callers = {
            SECRET: Caller(account_id="acct_a", key_id="key_all", scopes=frozenset(Scope)),
            READ_ONLY: Caller(account_id="acct_a", key_id="key_read", scopes=frozenset({Scope.READ})),
            RUN_ONLY: Caller(account_id="acct_a", key_id="key_run", scopes=frozenset({Scope.INFERENCE})),
            ONE_MODEL: Caller(account_id="acct_b", key_id="key_one", scopes=both, models=(MODEL.lower(),)),
        }

    async def authenticate(self, secret: str) -> Caller | None:
        """Get the caller with this secret; None if there is none."""
        return self._callers.get(secret)

    async def list(self, account_id: str | None = None) -> list[ApiKey]:
        """List the keys of the account."""
        callers = [caller for caller in self._callers.values() if caller.account_id == account_id]
        return [_key(caller, f"key {number}") for number, caller in enumerate(callers)]

    async def create(self, account_id: str, terms: KeyTerms) -> tuple[ApiKey, str]:
        """Return a new key; it is not stored."""
        caller = Caller(account_id=account_id, key_id="key_new", scopes=terms.scopes)
        return _key(caller, terms.name), "corral-new-key"

    async def revoke(self, key_id: str) -> ApiKey:
        """Return the key as revoked; it stays valid."""
        for caller in self._callers.values():
            if caller.key_id == key_id:
                return replace(_key(caller, "revoked"), revoked_at_ms=CREATED * 1000)
        raise InvalidRequest(f"There is no key '{key_id}'.")

    async def sign_token(self, account_id: str, key_id: str, terms: TokenTerms) -> str:
        """Return a token that authenticates nobody."""
        return f"jwt:{account_id}.{key_id}.{terms.expires_at_s}"

    async def read_token(self, token: str) -> tuple[ApiKey, TokenTerms] | None:  # noqa: ARG002
        """Return None: no token is valid."""
        return None


class KnownAccounts:
    """In-memory implementation of ``AccountReader``."""

    async def get(self, account_id: str) -> Account:
        """Get an account with any id."""
        return Account(
            id=account_id,
            name="ann",
            unlimited=True,
            limits=Limits(),
            created_at_ms=CREATED * 1000,
            available_nusd=0,
            held_nusd=0,
        )


class NoUsage:
    """Implementation of ``UsageReader`` for accounts that have used nothing."""

    async def totals(
        self,
        *,
        account_id: str | None,  # noqa: ARG002
        by: tuple[Dimension, ...],  # noqa: ARG002
        since_day: str | None = None,  # noqa: ARG002
        until_day: str | None = None,  # noqa: ARG002
    ) -> list[Usage]:
        """Return no usage."""
        return []


def door_dependencies(predictions: Predictions, *, clock: Callable[[], float], **options: Any) -> Dependencies:
    """Dependencies of doors with the keys of this module, unless *options* has others."""
    services: dict[str, Any] = {"accounts": KnownAccounts(), "keys": KnownKeys(), "usage": NoUsage()}
    return Dependencies(predictions=predictions, clock=clock, **{**services, **options})


def _key(caller: Caller, name: str) -> ApiKey:
    return ApiKey(
        id=caller.key_id,
        account_id=caller.account_id,
        name=name,
        scopes=caller.scopes,
        models=caller.models,
        expires_at_ms=None,
        spend_limit_nusd=None,
        spent_nusd=0,
        privacy=False,
        revoked_at_ms=None,
        created_at_ms=CREATED * 1000,
    )
