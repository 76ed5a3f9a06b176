"""Helpers for store tests. The clock is fixed at NOON unless a test moves it."""

import itertools
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from corral.core.accounts import Account, ApiKey, Limits, Scope
from corral.core.prediction import Prediction, Status, StoppedBy
from corral.core.pricing import RECEIPT_FORMAT, Price, Receipt, tokens_digest
from corral.store.books import accounts, keys
from corral.store.books.counters import count_tokens
from corral.store.books.reconcile import reconcile
from corral.store.runs import predictions
from corral.store.runs.claims import Attached, Claim, Claimed, IdempotentRequest, claim
from corral.store.runs.settlements import Settlement, settle
from corral.store.store import Store

NOON = 1_767_268_800_000
"""2026-01-01 12:00 UTC."""
MINUTE = 60_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
DOLLAR = 10**9
PRICE = Price(version="meta/llama-2-70b-chat@2024-01-01", input_nusd=650, output_nusd=2750)
FREE = Price(version="corral/demo@2024-01-01", input_nusd=0, output_nusd=0)
HOLD = 100 * 650 + 200 * 2750
"""Of the run that ``wanted`` describes."""

INPUT: dict[str, Any] = {
    "request": {"prompt": {"raw": {"text": "Say"}}, "choices": 1, "stopping": {"stop": []}},
    "shown": {"prompt": "Say \u00e9\x00 \U0001f600."},
}

_numbers = itertools.count()


def new_prediction_id() -> str:
    return f"{next(_numbers):026d}"


def wanted(account: Account, key: ApiKey, **changes: Any) -> Claim:
    """A claim request with 100 prompt tokens and at most 200 completion tokens."""
    plain = Claim(
        prediction_id=new_prediction_id(),
        account_id=account.id,
        key_id=key.id,
        door="openai",
        model="meta/llama-2-70b-chat",
        version="int8",
        background=False,
        input=INPUT,
        seed=2**64 - 1,
        weights_id="9f3c:int8",
        prompt_format="llama-2",
        prompt_digest=b"d" * 32,
        prompt_tokens=100,
        max_completion_tokens=200,
        price=PRICE,
    )
    return replace(plain, **changes)


def same(key: str = "once", body: bytes = b"body") -> IdempotentRequest:
    return IdempotentRequest(key=key, body_digest=body)


def receipt_for(prediction: Prediction, price: Price, tokens: int, at_ms: int) -> Receipt:
    return Receipt(
        format=RECEIPT_FORMAT,
        prediction_id=prediction.id,
        account_id=prediction.account_id,
        model=prediction.model,
        price_version=price.version,
        input_nusd=price.input_nusd,
        output_nusd=price.output_nusd,
        prompt_tokens=prediction.prompt_tokens,
        completion_tokens=tokens,
        total_nusd=price.cost_nusd(prompt_tokens=prediction.prompt_tokens, completion_tokens=tokens),
        stopped_by=StoppedBy.MODEL,
        tokens_digest=tokens_digest([range(tokens)]),
        completed_at_ms=at_ms,
        weights_id=prediction.weights_id,
    )


def ended(
    prediction: Prediction, *, price: Price = PRICE, tokens: int = 10, at_ms: int = NOON, **changes: Any
) -> Settlement:
    """A settlement of a run that emitted *tokens* and was ended by the model."""
    plain = Settlement(
        receipt=receipt_for(prediction, price, tokens, at_ms),
        status=Status.SUCCEEDED,
        output=[["Hel", "lo."]],
        error=None,
        engine_tokens=tokens,
    )
    return replace(plain, **changes)


def settle_counted(connection: Connection, settlement: Settlement, *, now_ms: int) -> Prediction:
    """Settle like a gateway: delivered engine tokens are counted once, in the same transaction."""
    receipt = settlement.receipt
    accounts.lock_account(connection, receipt.account_id)  # so that of two only one sees it unfinished
    before = predictions.row_of(connection, receipt.account_id, receipt.prediction_id)
    after = settle(connection, settlement, now_ms=now_ms)
    if not Status(before["status"]).terminal:
        count_tokens(connection, "gateway", delivered=settlement.engine_tokens - before["engine_tokens"])
    return after


class Books:
    """One account with one key, and a clock that the test moves."""

    def __init__(self, store: Store, account: Account, key: ApiKey) -> None:
        self.store = store
        self.account = account
        self.key = key
        self.now_ms = NOON

    @classmethod
    async def begin(cls, store: Store, *, credit_nusd: int = DOLLAR, unlimited: bool = False) -> "Books":
        def make(connection: Connection) -> tuple[Account, ApiKey]:
            taken = {each.name for each in accounts.list_accounts(connection)}
            name = "Ann" if "Ann" not in taken else f"Ann {next(_numbers)}"
            account = accounts.create_account(connection, name=name, unlimited=unlimited, now_ms=NOON)
            if credit_nusd:
                account = accounts.credit(connection, account.id, credit_nusd, now_ms=NOON)
            return account, keys.add_key(connection, new_key(account, account.id.encode()), now_ms=NOON)

        return cls(store, *await store.write(make))

    async def limit(self, **limits: int) -> None:
        await self.store.write(lambda c: accounts.set_limits(c, self.account.id, Limits(**limits)))

    async def claim(self, **changes: Any) -> Prediction:
        claimed = await self.try_claim(**changes)
        assert isinstance(claimed, Claimed)
        return claimed.prediction

    async def try_claim(self, **changes: Any) -> Claimed | Attached:
        request = wanted(self.account, self.key, **changes)
        return await self.store.write(lambda c: claim(c, request, now_ms=self.now_ms))

    async def settle(self, prediction: Prediction, **changes: Any) -> Prediction:
        settlement = ended(prediction, **{"at_ms": self.now_ms, **changes})
        return await self.store.write(lambda c: settle_counted(c, settlement, now_ms=self.now_ms))

    async def balance(self) -> tuple[int, int]:
        """Available and held."""
        account = await self.store.read(lambda c: accounts.get_account(c, self.account.id))
        assert account is not None
        return account.available_nusd, account.held_nusd

    async def stored_key(self) -> ApiKey:
        key = await self.store.read(lambda c: keys.get_key(c, self.key.id))
        assert key is not None
        return key

    async def get(self, prediction: Prediction) -> Prediction:
        return await self.store.read(lambda c: predictions.get(c, self.account.id, prediction.id))

    async def differences(self) -> list[str]:
        return await self.store.read(reconcile)


def new_key(account: Account, digest: bytes = b"digest", **changes: Any) -> keys.NewKey:
    plain = keys.NewKey(
        account_id=account.id, name="laptop", digest=digest, scopes=frozenset({Scope.INFERENCE, Scope.READ})
    )
    return replace(plain, **changes)
