"""Settlement: the transaction that ends a prediction and writes its status, bill, usage and webhook events."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, RowMapping, bindparam, func, insert, select, text, update

from corral.core.prediction import Prediction, Status, WebhookEvent, check_transition
from corral.core.pricing import Price, Receipt, verify
from corral.store.books import accounts, keys, ledger, scoped_tokens
from corral.store.books.ledger import Misbilled, transfer
from corral.store.runs.predictions import prediction_of, price_in, row_of
from corral.store.runs.streams import LogRow, append
from corral.store.schema import RUNNING, predictions, usage_records
from corral.store.webhooks import outbox


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """Result of a run. The receipt contains the prediction's id, the cost and the time."""

    receipt: Receipt
    status: Status
    output: list[list[str]] | None
    error: str | None
    engine_tokens: int
    """All tokens that the engine delivered; not fewer than the completion tokens on the receipt."""
    stops: list[int | None] | None = None
    """For each choice, the index of the stop string that ended it."""
    started_at_ms: int | None = None
    """Time of the first token, if ``record_start`` was not called."""
    admitted_at_ms: int | None = None
    """Time of admission to the engine's batch, if ``record_start`` was not called."""
    log: Sequence[LogRow] = ()
    """Events that are not yet in the event log."""
    silent: bool = False
    """Send no webhooks: the request was answered with an error, so the caller has no id of the prediction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """An unsettled prediction, with what is needed to resume or settle it."""

    prediction: Prediction
    price: Price
    engine_tokens: int
    """Tokens delivered by the engine, as last stored."""


_START: Final = (
    update(predictions)
    .where(predictions.c.id == bindparam("prediction_id"), predictions.c.status == Status.STARTING)
    .values(status=Status.PROCESSING, started_at_ms=bindparam("now_ms"), admitted_at_ms=bindparam("new_admitted_at_ms"))
    .values(weights_id=func.coalesce(predictions.c.weights_id, bindparam("new_weights_id")))
)
_END: Final = (
    update(predictions)
    .where(predictions.c.id == bindparam("prediction_id"))
    .values(
        {
            name: bindparam(f"new_{name}")
            for name in (
                "status", "output", "stops", "error", "completion_tokens", "engine_tokens", "counted_tokens",
                "prompt_tokens", "hold_nusd", "cost_nusd", "stopped_by", "receipt", "started_at_ms", "completed_at_ms",
                "admitted_at_ms", "weights_id",
            )
        }
    )
)  # fmt: skip
_RECORD: Final = insert(usage_records)
_UNFINISHED: Final = select(predictions).where(text(RUNNING)).order_by(predictions.c.created_at_ms, predictions.c.id)


def record_start(
    connection: Connection,
    prediction_id: str,
    *,
    now_ms: int,
    admitted_at_ms: int | None = None,
    weights_id: str | None = None,
) -> bool:
    """Record the first token. Returns False if the prediction has already started or ended.

    Args:
        connection: the transaction's connection.
        prediction_id: the prediction.
        now_ms: time of the token.
        admitted_at_ms: when the engine added the run to its batch; None is *now_ms*.
        weights_id: weights that compute it, if the claim was made before they were first loaded.
    """
    admitted_at_ms = now_ms if admitted_at_ms is None else admitted_at_ms
    values = {"now_ms": now_ms, "new_admitted_at_ms": admitted_at_ms, "new_weights_id": weights_id}
    return connection.execute(_START, {"prediction_id": prediction_id, **values}).rowcount == 1


def unfinished(connection: Connection) -> list[Unfinished]:
    """List all unfinished predictions, oldest first, for recovery at the start of a gateway."""
    return [
        Unfinished(prediction=prediction_of(row), price=price_in(row), engine_tokens=row["engine_tokens"])
        for row in connection.execute(_UNFINISHED).mappings()
    ]


def settle(connection: Connection, settlement: Settlement, *, now_ms: int) -> Prediction:
    """End a prediction and bill it. Idempotent: an ended prediction is returned as stored.

    Raises:
        UnknownPrediction: the receipt's account has no such prediction.
        IllegalTransition: the status is not a final one.
        Misbilled: the receipt is inconsistent, belongs to another prediction, or exceeds the hold.
    """
    receipt = settlement.receipt
    # 1. Lock the account first, as in every transaction.
    account = accounts.lock_account(connection, receipt.account_id)
    row = row_of(connection, receipt.account_id, receipt.prediction_id)
    if account is None or Status(row["status"]).terminal:
        return prediction_of(row)
    # 2. Refuse an inconsistent bill.
    check_transition(Status(row["status"]), settlement.status)
    document = receipt.as_dict()
    _check_bill(row, settlement, document)
    # 3. Write the status and everything that depends on it.
    changes = _changes(row, settlement, document)
    if settlement.log:
        append(connection, row["id"], settlement.log)
    connection.execute(_END, {"prediction_id": row["id"], **{f"new_{name}": v for name, v in changes.items()}})
    day = accounts.spending_day(account, now_ms)
    connection.execute(_RECORD, _usage(row, receipt, day))
    if row["hold_nusd"] > 0:
        _pay(connection, account, row, receipt.total_nusd, day=day, now_ms=now_ms)
    ended = prediction_of({**row, **changes})
    if ended.webhook is not None and not settlement.silent:
        target = outbox.WebhookTarget(prediction_id=ended.id, account_id=ended.account_id, webhook=ended.webhook)
        outbox.enqueue(connection, target, _final_events(row, settlement), now_ms=now_ms)
    return ended


def _check_bill(row: RowMapping, settlement: Settlement, document: dict[str, Any]) -> None:
    receipt = settlement.receipt
    wrong = verify(document)
    weights_id = row["weights_id"] or receipt.weights_id  # NULL: claimed before the weights were first loaded
    price = Price(version=receipt.price_version, input_nusd=receipt.input_nusd, output_nusd=receipt.output_nusd)
    if price != price_in(row) or (receipt.model, receipt.weights_id) != (row["model"], weights_id):
        wrong.append("The receipt's model, weights or price differ from those of the claim.")
    if receipt.prompt_tokens > row["prompt_tokens"]:
        wrong.append(f"{receipt.prompt_tokens} prompt tokens are billed, of {row['prompt_tokens']}.")
    if not max(receipt.completion_tokens, row["engine_tokens"]) <= settlement.engine_tokens:
        wrong.append(
            f"{receipt.completion_tokens} tokens are billed and {row['engine_tokens']} are stored as delivered, "
            f"but the settlement has {settlement.engine_tokens}."
        )
    if receipt.total_nusd > row["hold_nusd"]:
        wrong.append(f"{receipt.total_nusd} nano-dollars are billed, but {row['hold_nusd']} were held.")
    if wrong:
        raise Misbilled(f"Prediction {row['id']} cannot be settled. {' '.join(wrong)}")


def _changes(row: RowMapping, settlement: Settlement, document: dict[str, Any]) -> dict[str, Any]:
    receipt = settlement.receipt
    error = settlement.error
    started_at_ms = row["started_at_ms"] if row["started_at_ms"] is not None else settlement.started_at_ms
    admitted_at_ms = row["admitted_at_ms"] if row["admitted_at_ms"] is not None else settlement.admitted_at_ms
    never_began = started_at_ms is None and not settlement.engine_tokens
    return {
        "status": settlement.status,
        "output": None if row["data_removed"] else settlement.output,
        "stops": settlement.stops,
        "error": None if error is None else _storable(error),
        "prompt_tokens": receipt.prompt_tokens,  # 0 for a run that never started, which is not billed for its prompt
        "completion_tokens": receipt.completion_tokens,
        "engine_tokens": settlement.engine_tokens,
        "counted_tokens": receipt.prompt_tokens + receipt.completion_tokens,
        "hold_nusd": 0,
        "cost_nusd": receipt.total_nusd,
        "stopped_by": receipt.stopped_by,
        "receipt": document,
        "started_at_ms": started_at_ms,
        "completed_at_ms": receipt.completed_at_ms,
        "weights_id": row["weights_id"] or receipt.weights_id,
        "admitted_at_ms": None if never_began else admitted_at_ms,
    }


def _final_events(row: RowMapping, settlement: Settlement) -> list[WebhookEvent]:
    """Webhook events at the end of a run, in order; includes those of its start if they were not enqueued before."""
    events = [WebhookEvent.COMPLETED]
    if any(map(any, settlement.output or ())):
        events.insert(0, WebhookEvent.OUTPUT)
    if row["status"] == Status.STARTING and settlement.started_at_ms is not None:
        events[:0] = outbox.START_EVENTS
    return events


def _storable(message: str) -> str:
    """Replace NUL and lone surrogates, which PostgreSQL's text type cannot store."""
    return message.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()


def _usage(row: RowMapping, receipt: Receipt, day: str) -> dict[str, Any]:
    return {
        "prediction_id": row["id"],
        **{name: row[name] for name in ("account_id", "key_id", "door", "model")},
        "day": day,
        "prompt_tokens": receipt.prompt_tokens,
        "completion_tokens": receipt.completion_tokens,
        "cost_nusd": receipt.total_nusd,
    }


def _pay(
    connection: Connection, account: RowMapping, row: RowMapping, cost_nusd: int, *, day: str, now_ms: int
) -> None:
    """Transfer the cost from the hold to revenue, and release the rest."""
    hold_nusd, account_id = row["hold_nusd"], row["account_id"]
    transfer(
        connection,
        f"{ledger.SETTLE}:{row['id']}",
        kind=ledger.SETTLE,
        amounts_nusd={
            ledger.held(account_id): -hold_nusd,
            ledger.REVENUE: cost_nusd,
            ledger.available(account_id): hold_nusd - cost_nusd,
        },
        at_ms=now_ms,
        prediction_id=row["id"],
    )
    accounts.spend(connection, account, hold_nusd=hold_nusd, cost_nusd=cost_nusd, day=day)
    keys.spend(connection, row["key_id"], cost_nusd - hold_nusd)
    if row["token_digest"] is not None:
        scoped_tokens.refund(connection, row["token_digest"], hold_nusd - cost_nusd)
