"""Transactional outbox of webhook deliveries, and the log of finished ones.

Events are enqueued in the transaction that changes the prediction. Those of one prediction are sent in order, one at a
time. ``output`` and ``logs`` are rendered when they are sent, so at most one of each is pending per prediction.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    RowMapping,
    and_,
    bindparam,
    delete,
    exists,
    insert,
    or_,
    select,
    text,
    update,
)

from corral.core.prediction import Webhook, WebhookEvent
from corral.core.webhooks import Delivery, DeliveryState
from corral.store.ids import new_id
from corral.store.schema import OUTBOX_PENDING, outbox

MAX_CANDIDATES: Final = 200
"""Most due rows returned by one query."""
PAGE: Final = 100
PURGE_BATCH: Final = 500
THROTTLE_MS: Final = 500
"""Pause after an ``output`` or ``logs`` delivery before the next of either, per prediction."""
_INTERMEDIATE: Final = (WebhookEvent.OUTPUT, WebhookEvent.LOGS)
START_EVENTS: Final = (WebhookEvent.START, WebhookEvent.LOGS)
"""Events enqueued at the start of a run, which also writes its first log lines."""
_LAST: Final = 2**62
"""Position of ``completed``, after all other events."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookTarget:
    """A prediction and the webhook to call for its events."""

    prediction_id: str
    account_id: str
    webhook: Webhook


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A delivery that may be sent now."""

    id: str
    account_id: str
    receiver: str
    """Scheme, host and port of the URL, for the limit of concurrent deliveries per receiver."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leased:
    """A delivery leased by one gateway; no other sends it until the lease expires."""

    id: str
    account_id: str
    prediction_id: str
    event: WebhookEvent
    url: str
    receiver: str
    attempts: int
    """Including this one."""
    leased_until_ms: int


def _free() -> ColumnElement[bool]:
    return or_(outbox.c.leased_until_ms.is_(None), outbox.c.leased_until_ms <= bindparam("now_ms", type_=BigInteger))


def _may_be_sent() -> ColumnElement[bool]:
    """Condition of deliveries that may be sent at the parameter ``now_ms``."""
    other, now_ms = outbox.alias("other"), bindparam("now_ms", type_=BigInteger)
    same = other.c.prediction_id == outbox.c.prediction_id
    earlier = exists().where(same, other.c.state == DeliveryState.PENDING.value, other.c.position < outbox.c.position)
    just_sent = exists().where(same, other.c.event.in_(_INTERMEDIATE), other.c.ended_at_ms > now_ms - THROTTLE_MS)
    throttled = and_(outbox.c.event.in_(_INTERMEDIATE), just_sent)
    return and_(text(f"outbox.{OUTBOX_PENDING}"), outbox.c.due_at_ms <= now_ms, _free(), ~earlier, ~throttled)


_DUE: Final = (
    select(outbox.c.id, outbox.c.account_id, outbox.c.receiver)
    .where(
        _may_be_sent(),
        outbox.c.receiver.not_in(bindparam("busy_receivers", expanding=True)),
        outbox.c.account_id.not_in(bindparam("busy_accounts", expanding=True)),
    )
    .order_by(outbox.c.due_at_ms, outbox.c.id)
    .limit(bindparam("looked_at"))
)
_LEASE: Final = (
    select(outbox)
    .where(outbox.c.id.in_(bindparam("ids", expanding=True)), _may_be_sent())
    .with_for_update(skip_locked=True, key_share=True)
)
_DELETE_PENDING: Final = delete(outbox).where(
    outbox.c.prediction_id == bindparam("prediction_id"),
    outbox.c.event.in_(bindparam("events", expanding=True)),
    text(OUTBOX_PENDING),
    _free(),
)


def enqueue(connection: Connection, target: WebhookTarget, events: Iterable[WebhookEvent], *, now_ms: int) -> None:
    """Add events of a prediction to the outbox, in the transaction that changes the prediction.

    Args:
        connection: the transaction's connection.
        target: the prediction and its webhook.
        events: the events in order; those that the webhook does not want are skipped. With ``completed``, a pending
            ``output`` or ``logs`` is kept only if none was sent before: ``completed`` contains the final state.
        now_ms: current time.
    """
    happened = tuple(events)
    ends = WebhookEvent.COMPLETED in happened
    known = _known(connection, target.prediction_id)
    if ends:
        over = [event for event in _INTERMEDIATE if (event, True) in known]
        connection.execute(_DELETE_PENDING, {"prediction_id": target.prediction_id, "events": over, "now_ms": now_ms})
    kinds = {event for event, sent in known if ends or not sent}
    wanted = [event for event in happened if event in target.webhook.events]
    rows = [_row(target, event, now_ms) for event in wanted if event not in _INTERMEDIATE or event not in kinds]
    if rows:
        connection.execute(insert(outbox), rows)


def due(
    connection: Connection, *, now_ms: int, busy_receivers: Collection[str] = (), busy_accounts: Collection[str] = ()
) -> list[Due]:
    """List deliveries that may be sent now, longest due first, without those of busy receivers and accounts."""
    busy = {"busy_receivers": list(busy_receivers), "busy_accounts": list(busy_accounts)}
    rows = connection.execute(_DUE, {"now_ms": now_ms, "looked_at": MAX_CANDIDATES, **busy}).mappings()
    return [Due(**row) for row in rows]


def lease(connection: Connection, ids: Sequence[str], *, now_ms: int, until_ms: int) -> list[Leased]:
    """Lease deliveries for one attempt each; skips those that another gateway has leased."""
    rows = connection.execute(_LEASE, {"ids": list(ids), "now_ms": now_ms}).mappings().all()
    if rows:
        taken = [row["id"] for row in rows]
        values = {"leased_until_ms": until_ms, "attempts": outbox.c.attempts + 1}
        connection.execute(update(outbox).where(outbox.c.id.in_(taken)).values(values))
    return [_leased(row, until_ms) for row in rows]


def finish(
    connection: Connection,
    leased: Leased,
    *,
    state: DeliveryState,
    status: int | None = None,
    error: str | None = None,
    at_ms: int,
) -> None:
    """Record the result of an attempt. Does nothing if another gateway has leased the delivery since.

    Args:
        connection: the transaction's connection.
        leased: the delivery.
        state: the new state; pending for a retry.
        status: HTTP status, if a response was received.
        error: error code, if no response was received.
        at_ms: current time; for a retry, when it is due.
    """
    pending = state is DeliveryState.PENDING
    values = {"state": state, "leased_until_ms": None, "last_status": status, "last_error": error}
    when = {"due_at_ms": at_ms} if pending else {"ended_at_ms": at_ms}
    connection.execute(update(outbox).where(_still(leased)).values({**values, **when}))


def release(connection: Connection, leased: Leased) -> None:
    """Release the lease of an attempt that was not finished."""
    values = {"leased_until_ms": None, "attempts": outbox.c.attempts - 1}
    connection.execute(update(outbox).where(_still(leased)).values(values))


def replay(connection: Connection, delivery_id: str, *, account_id: str | None = None, now_ms: int) -> Delivery | None:
    """Make a delivery due again. Returns None if it does not exist or belongs to another account."""
    mine = and_(outbox.c.id == delivery_id, *(() if account_id is None else (outbox.c.account_id == account_id,)))
    again = {"state": DeliveryState.PENDING, "due_at_ms": now_ms, "ended_at_ms": None}
    row = connection.execute(update(outbox).where(mine).values(again).returning(outbox)).mappings().one_or_none()
    return None if row is None else _delivery(row)


def deliveries(
    connection: Connection, *, account_id: str | None = None, prediction_id: str | None = None, limit: int = PAGE
) -> list[Delivery]:
    """List deliveries, newest first, at most PAGE; of one account or prediction if given."""
    wanted = select(outbox)
    if account_id is not None:
        wanted = wanted.where(outbox.c.account_id == account_id)
    if prediction_id is not None:
        wanted = wanted.where(outbox.c.prediction_id == prediction_id)
    newest = wanted.order_by(outbox.c.created_at_ms.desc(), outbox.c.position.desc(), outbox.c.id.desc())
    rows = connection.execute(newest.limit(max(0, min(limit, PAGE)))).mappings()
    return [_delivery(row) for row in rows]


def purge(connection: Connection, *, before_ms: int, limit: int = PURGE_BATCH) -> int:
    """Delete deliveries that ended before *before_ms*; return their number. Call it until it returns 0."""
    ended = select(outbox.c.id).where(outbox.c.ended_at_ms < before_ms).order_by(outbox.c.ended_at_ms).limit(limit)
    ids = list(connection.execute(ended.with_for_update(skip_locked=True)).scalars())
    if ids:
        connection.execute(delete(outbox).where(outbox.c.id.in_(ids)))
    return len(ids)


def _known(connection: Connection, prediction_id: str) -> set[tuple[WebhookEvent, bool]]:
    """List the kinds of ``output`` and ``logs`` deliveries, each ended (True) or pending (False)."""
    wanted = select(outbox.c.event, outbox.c.state).distinct()
    rows = connection.execute(wanted.where(outbox.c.prediction_id == prediction_id, outbox.c.event.in_(_INTERMEDIATE)))
    return {(WebhookEvent(event), state != DeliveryState.PENDING) for event, state in rows}


def _row(target: WebhookTarget, event: WebhookEvent, now_ms: int) -> dict[str, Any]:
    match event:
        case WebhookEvent.START:
            position = 0
        case WebhookEvent.OUTPUT:
            position = 2 * now_ms
        case WebhookEvent.LOGS:
            position = 2 * now_ms + 1
        case WebhookEvent.COMPLETED:
            position = _LAST
    return {
        "id": new_id("msg"),
        "account_id": target.account_id,
        "prediction_id": target.prediction_id,
        "event": event,
        "position": position,
        "url": target.webhook.url,
        "receiver": "/".join(target.webhook.url.lower().split("/", 3)[:3]),
        "state": DeliveryState.PENDING,
        "attempts": 0,
        "due_at_ms": now_ms,
        "created_at_ms": now_ms,
    }


def _still(leased: Leased) -> ColumnElement[bool]:
    return and_(outbox.c.id == leased.id, outbox.c.leased_until_ms == leased.leased_until_ms)


def _leased(row: RowMapping, until_ms: int) -> Leased:
    return Leased(
        **{name: row[name] for name in ("id", "account_id", "prediction_id", "url", "receiver")},
        event=WebhookEvent(row["event"]),
        attempts=row["attempts"] + 1,
        leased_until_ms=until_ms,
    )


def _delivery(row: RowMapping) -> Delivery:
    values = {name: row[name] for name in Delivery.__slots__}
    values["event"] = WebhookEvent(values["event"])
    values["state"] = DeliveryState(values["state"])
    return Delivery(**values)
