"""The claim: the transaction that checks a run, records its prediction and holds its worst-case cost.

If a check fails, nothing is written. The account is locked first, so that concurrent claims cannot exceed its limits
together.
"""

from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, RowMapping, bindparam, delete, insert, select

from corral.core.accounts import ApiKey, Scope
from corral.core.caller import Caller, ScopedToken
from corral.core.errors import IdempotencyConflict, PermissionDenied, Unauthenticated
from corral.core.prediction import Prediction, Status, Webhook
from corral.core.pricing import Price
from corral.store.books import keys, ledger, scoped_tokens
from corral.store.books.accounts import lock_account, move
from corral.store.books.ledger import transfer
from corral.store.books.limits import check_model_concurrency, check_money, check_rates, check_token
from corral.store.runs.predictions import find_row, prediction_of, seed_column, webhook_column
from corral.store.schema import idempotency_keys, predictions


@dataclass(frozen=True, slots=True, kw_only=True)
class IdempotentRequest:
    """Idempotency key of a request and the digest of its body."""

    key: str
    body_digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Values of a prediction to be recorded, with its price and limits."""

    prediction_id: str
    account_id: str
    key_id: str
    door: str
    model: str
    version: str
    background: bool
    input: dict[str, Any] | None
    seed: int | None
    weights_id: str | None
    """Weights that will compute it; None if nothing will be computed."""
    prompt_format: str | None
    prompt_digest: bytes | None
    """As in ``Prediction``; not stored in privacy mode."""
    prompt_tokens: int
    max_completion_tokens: int
    """Sum over all choices."""
    price: Price
    max_cost_nusd: int | None = None
    """Cap on the cost, set by the caller."""
    idempotency: IdempotentRequest | None = None
    deadline_at_ms: int | None = None
    webhook: Webhook | None = None
    concurrent_per_model: int = 0
    """Most concurrent runs of this model per account; 0 is no limit."""
    asked_model: str | None = None
    """Model name used by the caller, which the key must allow; None is ``model``."""
    token: ScopedToken | None = None
    """Scoped token used instead of the API key."""
    notes: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def hold_nusd(self) -> int:
        """Worst-case cost: every choice uses its maximum of tokens."""
        return self.price.cost_nusd(prompt_tokens=self.prompt_tokens, completion_tokens=self.max_completion_tokens)

    @property
    def max_tokens(self) -> int:
        """Most tokens that the run can use: prompt and all choices."""
        return self.prompt_tokens + self.max_completion_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """Result of a claim: a new prediction was recorded."""

    prediction: Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class Attached:
    """Result of a claim: the idempotency key was used before, for this prediction."""

    prediction_id: str


_INSERT: Final = insert(predictions)
_INSERT_IDEMPOTENCY_KEY: Final = insert(idempotency_keys)
_FIND_IDEMPOTENCY_KEY: Final = select(idempotency_keys.c.body_digest, idempotency_keys.c.prediction_id).where(
    idempotency_keys.c.account_id == bindparam("account_id"), idempotency_keys.c.key == bindparam("key")
)
_OLD_IDEMPOTENCY_KEYS: Final = (
    select(idempotency_keys.c.account_id, idempotency_keys.c.key)
    .join(predictions, predictions.c.id == idempotency_keys.c.prediction_id)
    # Keep the keys of unfinished runs, whatever their age: else the same request would be run and billed twice.
    .where(idempotency_keys.c.created_at_ms < bindparam("before_ms"), predictions.c.completed_at_ms.is_not(None))
)


def claim(connection: Connection, wanted: Claim, *, now_ms: int, is_retry: bool = False) -> Claimed | Attached:
    """Hold the worst-case cost of a run and insert its prediction, or find the prediction of the same request.

    Args:
        connection: the transaction's connection.
        wanted: the prediction to record.
        now_ms: current time.
        is_retry: the response to an earlier commit was lost, so the prediction may exist already.

    Raises:
        Unauthenticated: the key or its account does not exist, or the key was revoked.
        PermissionDenied: the key has expired, or may not run models or this model.
        IdempotencyConflict: the idempotency key was used with another body.
        RateLimited: a limit of requests, tokens or concurrent runs is reached.
        InvalidRequest: the run's tokens exceed the account's limit per minute.
        InsufficientCredit: credit, a spend limit or the request's cap does not cover the worst-case cost.
    """
    account = lock_account(connection, wanted.account_id)
    if account is None:
        raise Unauthenticated("The account does not exist.")
    if is_retry and (existing := find_row(connection, wanted.prediction_id)) is not None:
        return Claimed(prediction=prediction_of(existing))
    key = _usable_key(connection, wanted, now_ms)  # before the attach, which returns the old prediction
    if wanted.idempotency is not None:
        found = _attach(connection, wanted.account_id, wanted.idempotency)
        if found is not None:
            return found
    check_rates(connection, account, tokens=wanted.max_tokens, now_ms=now_ms)
    if wanted.concurrent_per_model:
        check_model_concurrency(connection, wanted.account_id, wanted.model, limit=wanted.concurrent_per_model)
    check_money(account, key, hold_nusd=wanted.hold_nusd, max_cost_nusd=wanted.max_cost_nusd, now_ms=now_ms)
    if wanted.token is not None and wanted.token.spend_limit_nusd is not None:
        left_nusd = wanted.token.spend_limit_nusd - scoped_tokens.spent(connection, wanted.token.digest)
        check_token(hold_nusd=wanted.hold_nusd, limit_nusd=wanted.token.spend_limit_nusd, left_nusd=left_nusd)
    row = _row(wanted, kept=not key.privacy, now_ms=now_ms)
    connection.execute(_INSERT, row)
    _hold(connection, account, wanted, now_ms)
    if wanted.idempotency is not None:
        _insert_idempotency_key(connection, wanted, wanted.idempotency, now_ms)
    return Claimed(prediction=prediction_of(row))


def purge_idempotency_keys(connection: Connection, *, before_ms: int, limit: int = 500) -> int:
    """Delete idempotency keys older than *before_ms*; return their number. Call it until it returns 0."""
    old = list(connection.execute(_OLD_IDEMPOTENCY_KEYS.limit(limit), {"before_ms": before_ms}).all())
    for account_id, key in old:
        connection.execute(
            delete(idempotency_keys).where(idempotency_keys.c.account_id == account_id, idempotency_keys.c.key == key)
        )
    return len(old)


def delete_idempotency_key(connection: Connection, prediction_id: str) -> None:
    """Delete the idempotency key of a prediction that never ran, so that the request can be sent again."""
    connection.execute(delete(idempotency_keys).where(idempotency_keys.c.prediction_id == prediction_id))


def _attach(connection: Connection, account_id: str, request: IdempotentRequest) -> Attached | None:
    found = connection.execute(_FIND_IDEMPOTENCY_KEY, {"account_id": account_id, "key": request.key}).one_or_none()
    if found is None:
        return None
    body_digest, prediction_id = found
    if body_digest != request.body_digest:
        raise IdempotencyConflict(
            "This idempotency key was used with a different request. Send the same body, or use a new key."
        )
    return Attached(prediction_id=prediction_id)


def _usable_key(connection: Connection, wanted: Claim, now_ms: int) -> ApiKey:
    # Read after the account is locked: the key's spending changes only under that lock.
    key = keys.get_key(connection, wanted.key_id)
    if key is None or key.account_id != wanted.account_id or key.revoked_at_ms is not None:
        raise Unauthenticated("The API key was revoked.")
    if key.expires_at_ms is not None and key.expires_at_ms <= now_ms:
        raise PermissionDenied("The API key has expired.")
    if wanted.token is not None and wanted.token.expires_at_ms <= now_ms:
        raise Unauthenticated("The token has expired.")
    caller = Caller(account_id=key.account_id, key_id=key.id, scopes=key.scopes, models=key.models)
    caller.require(Scope.INFERENCE)
    caller.require_model(wanted.asked_model or wanted.model)
    return key


def _row(wanted: Claim, *, kept: bool, now_ms: int) -> dict[str, Any]:
    return {
        "id": wanted.prediction_id,
        "account_id": wanted.account_id,
        "key_id": wanted.key_id,
        "door": wanted.door,
        "model": wanted.model,
        "version": wanted.version,
        "status": Status.STARTING,
        "background": wanted.background,
        "created_at_ms": now_ms,
        "input": wanted.input if kept else None,
        "output": None,
        "stops": None,
        "data_removed": not kept,
        "error": None,
        "seed": seed_column(wanted.seed),
        "weights_id": wanted.weights_id,
        "prompt_format": wanted.prompt_format,
        "prompt_digest": wanted.prompt_digest if kept else None,
        "prompt_tokens": wanted.prompt_tokens,
        "completion_tokens": 0,
        "engine_tokens": 0,
        "counted_tokens": wanted.max_tokens,
        "price_version": wanted.price.version,
        "input_nusd": wanted.price.input_nusd,
        "output_nusd": wanted.price.output_nusd,
        "hold_nusd": wanted.hold_nusd,
        "cost_nusd": None,
        "stopped_by": None,
        "receipt": None,
        "started_at_ms": None,
        "completed_at_ms": None,
        "admitted_at_ms": None,
        "deadline_at_ms": wanted.deadline_at_ms,
        "webhook": webhook_column(wanted.webhook),
        "notes": wanted.notes,
        "token_digest": _counted_digest(wanted.token),
    }


def _hold(connection: Connection, account: RowMapping, wanted: Claim, now_ms: int) -> None:
    hold_nusd, account_id = wanted.hold_nusd, wanted.account_id
    if hold_nusd == 0:
        return
    transfer(
        connection,
        f"{ledger.HOLD}:{wanted.prediction_id}",
        kind=ledger.HOLD,
        amounts_nusd={ledger.available(account_id): -hold_nusd, ledger.held(account_id): hold_nusd},
        at_ms=now_ms,
        prediction_id=wanted.prediction_id,
    )
    move(connection, account["id"], available_nusd=-hold_nusd, held_nusd=hold_nusd)
    keys.spend(connection, wanted.key_id, hold_nusd)
    if wanted.token is not None and _counted_digest(wanted.token):
        scoped_tokens.hold(connection, wanted.token, account_id=account_id, hold_nusd=hold_nusd, now_ms=now_ms)


def _counted_digest(token: ScopedToken | None) -> bytes | None:
    """Get the digest of a token with a spend limit; other tokens are not counted."""
    return None if token is None or token.spend_limit_nusd is None else token.digest


def _insert_idempotency_key(connection: Connection, wanted: Claim, request: IdempotentRequest, now_ms: int) -> None:
    row = {
        "account_id": wanted.account_id,
        "key": request.key,
        "body_digest": request.body_digest,
        "prediction_id": wanted.prediction_id,
        "created_at_ms": now_ms,
    }
    connection.execute(_INSERT_IDEMPOTENCY_KEY, row)
