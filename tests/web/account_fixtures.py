"""Accounts, API keys and predictions written directly to the store. No engine runs."""

import re
import secrets
from dataclasses import replace
from typing import Any

from httpx2 import AsyncClient, Response

from corral.bootstrap import Server
from corral.core.accounts import Account, Scope
from corral.core.generation import ChoiceEnded, Delta, Finished, FinishReason, GenerationEvent, Started, Usage
from corral.core.prediction import Prediction, Webhook, WebhookEvent
from corral.service.accounts.api_keys import KeyTerms
from corral.service.accounts.services import AccountServices
from corral.service.runs.codec import encode_events
from corral.store.books import keys
from corral.store.runs import claims
from corral.store.runs.settlements import settle
from corral.store.runs.streams import LogRow
from corral.store.webhooks import outbox
from corral.store.webhooks.outbox import WebhookTarget
from tests.contract.store.books import PRICE, ended, wanted
from tests.web.conftest import PageServer

RECEIVER = Webhook(url="https://receiver.example/hook", events=frozenset(WebhookEvent))


class StoredAccount:
    """An account in the store; creates its keys, signed-in browsers and predictions."""

    def __init__(self, live: PageServer, account: Account) -> None:
        self._live = live
        self._running_key_id: str | None = None
        self.account = account

    @classmethod
    async def create(cls, live: PageServer, name: str, *, credit_nusd: int = 10**9) -> "StoredAccount":
        return cls(live, await live.server.account_services.accounts.create(name, credit_nusd=credit_nusd))

    @property
    def server(self) -> Server:
        return self._live.server

    @property
    def services(self) -> AccountServices:
        return self.server.account_services

    async def key(self, *scopes: Scope, **terms: Any) -> tuple[str, str]:
        """Create an API key; returns its id and secret."""
        key_terms = KeyTerms(**{"name": "test", "scopes": frozenset(scopes or Scope), **terms})
        key, secret = await self.services.keys.create(self.account.id, key_terms)
        return key.id, secret

    async def browser(self, *scopes: Scope) -> "SignedInBrowser":
        """Create a key with *scopes* (default: all) and sign in with it."""
        key_id, secret = await self.key(*scopes)
        return await SignedInBrowser.sign_in(self._live, secret, key_id)

    async def run(
        self, *, tokens: int = 10, key_id: str | None = None, finished: bool = True, **terms: Any
    ) -> Prediction:
        """Create a finished or a running prediction of the account."""
        chosen = key_id or self._running_key_id
        if chosen is None:
            chosen = self._running_key_id = (await self.key())[0]
        found = await self.server.store.read(lambda c: keys.get_key(c, chosen))
        assert found is not None
        now_ms = self.services.keys.now_ms()
        shown = {"shown": {"prompt": "Say hello."}, "request": {}}
        request = replace(wanted(self.account, found), prediction_id=new_id(), **{"input": shown, **terms})
        claimed = await self.server.store.write(lambda c: claims.claim(c, request, now_ms=now_ms))
        assert isinstance(claimed, claims.Claimed)
        if not finished:
            return claimed.prediction
        settlement = ended(claimed.prediction, price=PRICE, tokens=tokens, at_ms=now_ms + 900)
        log = [LogRow(first_seq=1, last_seq=4, payload=encode_events(answer_events(tokens)))]
        settlement = replace(settlement, started_at_ms=now_ms + 100, admitted_at_ms=now_ms + 50, log=log)
        return await self.server.store.write(lambda c: settle(c, settlement, now_ms=now_ms))

    async def enqueue_deliveries(self, prediction: Prediction, *events: WebhookEvent) -> None:
        """Enqueue webhook deliveries of a prediction."""
        target = WebhookTarget(prediction_id=prediction.id, account_id=self.account.id, webhook=RECEIVER)
        now_ms = self.services.keys.now_ms()
        await self.server.store.write(lambda c: outbox.enqueue(c, target, events, now_ms=now_ms))


class SignedInBrowser:
    """HTTP client with a web session."""

    def __init__(self, http: AsyncClient, key_id: str) -> None:
        self.http = http
        self.key_id = key_id
        self._token = ""

    @classmethod
    async def sign_in(cls, live: PageServer, secret: str, key_id: str) -> "SignedInBrowser":
        http = live.browser()
        answer = await http.post("/sign-in", data={"key": secret, "next": "/"})
        assert answer.status_code == 303
        return cls(http, key_id)

    async def get(self, path: str) -> Response:
        return await self.http.get(path)

    async def send(self, path: str, **fields: str | list[str]) -> Response:
        """Submit a form with the CSRF token of the session and a new idempotency key."""
        if not self._token:
            found = re.search(r'name="csrf-token" content="([^"]+)"', (await self.http.get("/")).text)
            assert found is not None
            self._token = found[1]
        return await self.http.post(path, data={"csrf": self._token, "once": secrets.token_hex(16), **fields})


def answer_events(tokens: int) -> list[GenerationEvent]:
    """Events of a run that answers ``Hello.``"""
    ids = tuple(range(tokens))
    text = Delta(choice=0, text="Hello.", ids=ids, logprobs=(0.0,) * tokens, completion_tokens=tokens)
    end = ChoiceEnded(choice=0, reason=FinishReason.STOP)
    usage = Usage(prompt_tokens=100, completion_tokens=tokens)
    return [Started(prompt_tokens=100, seed=1), text, end, Finished(usage=usage)]


_id_numbers = iter(range(10**6))


def new_id() -> str:
    return f"page{next(_id_numbers):022d}"
