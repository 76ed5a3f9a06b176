"""The end of a run: its state, bill, usage and what is to be told of it, in one transaction, once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, RowMapping, bindparam, func, insert, select, text, update

from corral.core.prediction import Prediction, Status, WebhookEvent, check_move
from corral.core.pricing import Price, Receipt, verify
from corral.store.books import accounts, keys, ledger, scoped_tokens
from corral.store.books.ledger import Misbilled, transfer
from corral.store.runs.predictions import prediction_of, price_in, row_of
from corral.store.runs.streams import LogRow, append
from corral.store.schema import RUNNING, predictions, usage_records
from corral.store.webhooks import outbox


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """How a run ended. The receipt says which one, for what, and when."""

    receipt: Receipt
    status: Status
    output: list[list[str]] | None
    error: str | None
    engine_tokens: int
    """All that the engine delivered to the run; at least the completion tokens on the receipt."""
    stops: list[int | None] | None = None
    """Per choice, which of the request's stop strings ended it, counted from 0."""
    started_at_ms: int | None = None
    """First token, for a run of which ``started`` was never told."""
    admitted_at_ms: int | None = None
    """The engine's taking it into the batch, likewise."""
    log: Sequence[LogRow] = ()
    """Events that are not in the stream log yet."""
    silent: bool = False
    """Its caller was answered with an error and knows of no prediction: no webhook tells of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """A prediction that nobody settled, and what is needed to go on with it or to settle it."""

    prediction: Prediction
    price: Price
    engine_tokens: int
    """Delivered so far, as far as the stream log was told."""


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


def started(
    connection: Connection,
    prediction_id: str,
    *,
    now_ms: int,
    admitted_at_ms: int | None = None,
    weights_id: str | None = None,
) -> bool:
    """Note the first token; False if the prediction is past its start already, or over.

    Args:
        connection: of the transaction.
        prediction_id: which one.
        now_ms: when the token came.
        admitted_at_ms: when the engine had taken it into its batch; None is then too.
        weights_id: which weights compute it, for a claim that was made before they were first loaded.
    """
    admitted_at_ms = now_ms if admitted_at_ms is None else admitted_at_ms
    values = {"now_ms": now_ms, "new_admitted_at_ms": admitted_at_ms, "new_weights_id": weights_id}
    return connection.execute(_START, {"prediction_id": prediction_id, **values}).rowcount == 1


def unfinished(connection: Connection) -> list[Unfinished]:
    """Every prediction that is not over, oldest first: what a gateway finds when it starts again."""
    return [
        Unfinished(prediction=prediction_of(row), price=price_in(row), engine_tokens=row["engine_tokens"])
        for row in connection.execute(_UNFINISHED).mappings()
    ]


def settle(connection: Connection, settlement: Settlement, *, now_ms: int) -> Prediction:
    """End a prediction and bill it. One that is over already is returned as it is stored, and nothing changes.

    Raises:
        UnknownPrediction: the receipt's account has no such prediction.
        IllegalTransition: the status is not one to end with.
        Misbilled: the receipt does not add up, is not of this prediction, or takes more than was held.
    """
    receipt = settlement.receipt
    # 1. The account first, as everywhere.
    account = accounts.lock_account(connection, receipt.account_id)
    row = row_of(connection, receipt.account_id, receipt.prediction_id)
    if account is None or Status(row["status"]).terminal:
        return prediction_of(row)
    # 2. Nothing is billed that cannot be right.
    check_move(Status(row["status"]), settlement.status)
    document = receipt.as_dict()
    _check_bill(row, settlement, document)
    # 3. The state, and everything that follows from it.
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
        whom = outbox.Addressee(prediction_id=ended.id, account_id=ended.account_id, webhook=ended.webhook)
        outbox.tell(connection, whom, _news(row, settlement), now_ms=now_ms)
    return ended


def _check_bill(row: RowMapping, settlement: Settlement, document: dict[str, Any]) -> None:
    receipt = settlement.receipt
    wrong = verify(document)
    weights_id = row["weights_id"] or receipt.weights_id  # NULL: claimed before the weights were first loaded
    price = Price(version=receipt.price_version, input_nusd=receipt.input_nusd, output_nusd=receipt.output_nusd)
    if price != price_in(row) or (receipt.model, receipt.weights_id) != (row["model"], weights_id):
        wrong.append("The receipt's model, weights and price are not those that were agreed.")
    if receipt.prompt_tokens > row["prompt_tokens"]:
        wrong.append(f"{receipt.prompt_tokens} prompt tokens are billed, of {row['prompt_tokens']}.")
    if not max(receipt.completion_tokens, row["engine_tokens"]) <= settlement.engine_tokens:
        wrong.append(
            f"{receipt.completion_tokens} tokens are billed and {row['engine_tokens']} were known to be delivered, "
            f"but {settlement.engine_tokens} are said to have been."
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
        "prompt_tokens": receipt.prompt_tokens,  # none for a run that never began, and so was not billed for it
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


def _news(row: RowMapping, settlement: Settlement) -> list[WebhookEvent]:
    """What there is to tell of a run at its end, in order, as far as it was not told before."""
    news = [WebhookEvent.COMPLETED]
    if any(map(any, settlement.output or ())):
        news.insert(0, WebhookEvent.OUTPUT)
    if row["status"] == Status.STARTING and settlement.started_at_ms is not None:
        news[:0] = outbox.BEGINNING
    return news


def _storable(message: str) -> str:
    """PostgreSQL's text holds neither NUL nor lone surrogates."""
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
    """From the hold: the cost to revenue, the rest back."""
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
        scoped_tokens.give_back(connection, row["token_digest"], hold_nusd - cost_nusd)
