"""Keys of every kind, of which ``SECRET`` may do everything a caller can."""

from corral.core.accounts import Scope
from corral.core.caller import Caller
from tests.doors.live_server import SECRET
from tests.doors.scripted_predictions import MODEL

READ_ONLY = "corral-read-only-key"
RUN_ONLY = "corral-run-only-key"
ONE_MODEL = "corral-one-model-key"


class KnownKeys:
    """Keys of every kind."""

    def __init__(self) -> None:
        both = frozenset({Scope.INFERENCE, Scope.READ})
        self._callers = {
            SECRET: Caller(account_id="acct_a", key_id="key_all", scopes=both),
            READ_ONLY: Caller(account_id="acct_a", key_id="key_read", scopes=frozenset({Scope.READ})),
            RUN_ONLY: Caller(account_id="acct_a", key_id="key_run", scopes=frozenset({Scope.INFERENCE})),
            ONE_MODEL: Caller(account_id="acct_b", key_id="key_one", scopes=both, models=(MODEL.lower(),)),
        }

    async def authenticate(self, secret: str) -> Caller | None:
        """The caller whose key *secret* is, or None."""
        return self._callers.get(secret)
