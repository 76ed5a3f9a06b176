"""In-memory API keys with different scopes. ``SECRET`` has every scope."""

from dataclasses import replace

from corral.core.accounts import Account, ApiKey, Limits, Scope
from corral.core.caller import Caller
from corral.core.errors import InvalidRequest
from corral.service.accounts.accounts import Dimension, KeyTerms, Usage
from corral.service.accounts.scoped_tokens import TokenTerms
from tests.doors.live_server import SECRET
from tests.doors.scripted_predictions import CREATED, MODEL

READ_ONLY = "corral-read-only-key"
RUN_ONLY = "corral-run-only-key"
ONE_MODEL = "corral-one-model-key"


class KnownKeys:
    """In-memory implementation of the accounts port."""

    def __init__(self) -> None:
        both = frozenset({Scope.INFERENCE, Scope.READ})
        self._callers = {
            SECRET: Caller(account_id="acct_a", key_id="key_all", scopes=frozenset(Scope)),
            READ_ONLY: Caller(account_id="acct_a", key_id="key_read", scopes=frozenset({Scope.READ})),
            RUN_ONLY: Caller(account_id="acct_a", key_id="key_run", scopes=frozenset({Scope.INFERENCE})),
            ONE_MODEL: Caller(account_id="acct_b", key_id="key_one", scopes=both, models=(MODEL.lower(),)),
        }

    async def authenticate(self, secret: str) -> Caller | None:
        """The caller whose key *secret* is, or None."""
        return self._callers.get(secret)

    async def account(self, name_or_id: str) -> Account:
        """Any account."""
        return Account(
            id=name_or_id,
            name="ann",
            unlimited=True,
            limits=Limits(),
            created_at_ms=CREATED * 1000,
            available_nusd=0,
            held_nusd=0,
        )

    async def keys(self, account_id: str | None = None) -> list[ApiKey]:
        """Those of the account."""
        callers = [caller for caller in self._callers.values() if caller.account_id == account_id]
        return [_key(caller, f"key {number}") for number, caller in enumerate(callers)]

    async def create_key(self, account_id: str, terms: KeyTerms) -> tuple[ApiKey, str]:
        """One that is not kept."""
        caller = Caller(account_id=account_id, key_id="key_new", scopes=terms.scopes)
        return _key(caller, terms.name), "corral-new-key"

    async def revoke_key(self, key_id: str) -> ApiKey:
        """It stays all the same."""
        for caller in self._callers.values():
            if caller.key_id == key_id:
                return replace(_key(caller, "revoked"), revoked_at_ms=CREATED * 1000)
        raise InvalidRequest(f"There is no key '{key_id}'.")

    async def sign_token(self, account_id: str, key_id: str, terms: TokenTerms) -> str:
        """One that opens nothing."""
        return f"jwt:{account_id}.{key_id}.{terms.expires_at_s}"

    async def read_token(self, token: str) -> tuple[ApiKey, TokenTerms] | None:  # noqa: ARG002
        """None is good."""
        return None

    async def usage(
        self,
        *,
        account_id: str | None,  # noqa: ARG002
        by: tuple[Dimension, ...],  # noqa: ARG002
        since_day: str | None = None,  # noqa: ARG002
        until_day: str | None = None,  # noqa: ARG002
    ) -> list[Usage]:
        """Nothing was used."""
        return []


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
