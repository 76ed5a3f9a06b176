"""A server with a scripted model behind it."""

from collections.abc import AsyncIterator

import pytest

from corral.api.app import create_app
from corral.core.accounts import Scope
from corral.core.caller import Caller
from tests.doors.live_server import SECRET, LiveServer, serving
from tests.doors.scripted_predictions import CREATED, MODEL, ScriptedPredictions

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


@pytest.fixture
async def predictions() -> AsyncIterator[ScriptedPredictions]:
    """The service behind ``server``; tests change its script before they call."""
    made = ScriptedPredictions()
    yield made
    assert made.violations == []


@pytest.fixture
async def server(predictions: ScriptedPredictions) -> AsyncIterator[LiveServer]:
    """A server in front of ``predictions`` that pings after 50 ms and takes bodies up to 2 MiB."""
    app = create_app(predictions, KnownKeys(), clock=lambda: CREATED + 0.5, ping_s=0.05)
    async with serving(app) as live:
        yield live
