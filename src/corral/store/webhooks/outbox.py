"""What callers are to be told, written with the state that it tells of; and, once told, the log of it.

Events of one prediction go out in their order, one at a time. An ``output`` or ``logs`` tells of the prediction as it
stands when it goes out, so one pending of each is enough, however much is written meanwhile. Knows no HTTP.
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

LOOKED_AT: Final = 200
"""Rows that are looked at to find some that may be sent now."""
PAGE: Final = 100
REMOVAL_BATCH: Final = 500
THROTTLE_MS: Final = 500
"""Between two ``output`` or ``logs`` of one prediction, whichever: from the end of one to the beginning of the next."""
_INTERMEDIATE: Final = (WebhookEvent.OUTPUT, WebhookEvent.LOGS)
BEGINNING: Final = (WebhookEvent.START, WebhookEvent.LOGS)
"""What there is to tell when a run has begun: its first lines of log come with it."""
_LAST: Final = 2**62
"""Position of ``completed``, behind everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Addressee:
    """Who is told of a prediction."""

    prediction_id: str
    account_id: str
    webhook: Webhook


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A row that may be sent now."""

    id: str
    account_id: str
    receiver: str
    """The URL up to its path: what shares it shares what one receiver is given at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leased:
    """A row that one gateway is sending, and no other until the lease is over."""

    id: str
    account_id: str
    prediction_id: str
    event: WebhookEvent
    url: str
    receiver: str
    attempts: int
    """This one included."""
    leased_until_ms: int


def _free() -> ColumnElement[bool]:
    return or_(outbox.c.leased_until_ms.is_(None), outbox.c.leased_until_ms <= bindparam("now_ms", type_=BigInteger))


def _may_be_sent() -> ColumnElement[bool]:
    """At ``now_ms``, a parameter: the statements are made once, for they are executed several times a second."""
    other, now_ms = outbox.alias("other"), bindparam("now_ms", type_=BigInteger)
    same = other.c.prediction_id == outbox.c.prediction_id
    earlier = exists().where(same, other.c.state == DeliveryState.PENDING.value, other.c.position < outbox.c.position)
    just_told = exists().where(same, other.c.event.in_(_INTERMEDIATE), other.c.ended_at_ms > now_ms - THROTTLE_MS)
    throttled = and_(outbox.c.event.in_(_INTERMEDIATE), just_told)
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
_OVERTAKE: Final = delete(outbox).where(
    outbox.c.prediction_id == bindparam("prediction_id"),
    outbox.c.event.in_(bindparam("events", expanding=True)),
    text(OUTBOX_PENDING),
    _free(),
)


def tell(connection: Connection, whom: Addressee, events: Iterable[WebhookEvent], *, now_ms: int) -> None:
    """Write what is to be told of a prediction, in the transaction in which it comes true.

    Args:
        connection: of the transaction.
        whom: who is told.
        events: what happened, in order; those that nobody asked for are left out. With ``completed``, an ``output``
            or ``logs`` stays only if it is the first of its kind: the last word is in ``completed`` anyway.
        now_ms: when.
    """
    happened = tuple(events)
    ends = WebhookEvent.COMPLETED in happened
    known = _known(connection, whom.prediction_id)
    if ends:
        over = [event for event in _INTERMEDIATE if (event, True) in known]
        connection.execute(_OVERTAKE, {"prediction_id": whom.prediction_id, "events": over, "now_ms": now_ms})
    kinds = {event for event, told in known if ends or not told}
    wanted = [event for event in happened if event in whom.webhook.events]
    rows = [_row(whom, event, now_ms) for event in wanted if event not in _INTERMEDIATE or event not in kinds]
    if rows:
        connection.execute(insert(outbox), rows)


def due(
    connection: Connection, *, now_ms: int, busy_receivers: Collection[str] = (), busy_accounts: Collection[str] = ()
) -> list[Due]:
    """Rows that may be sent now, those that have waited longest first, leaving out whoever has enough in hand."""
    busy = {"busy_receivers": list(busy_receivers), "busy_accounts": list(busy_accounts)}
    rows = connection.execute(_DUE, {"now_ms": now_ms, "looked_at": LOOKED_AT, **busy}).mappings()
    return [Due(**row) for row in rows]


def lease(connection: Connection, ids: Sequence[str], *, now_ms: int, until_ms: int) -> list[Leased]:
    """Take rows for one attempt each; those that somebody else took meanwhile are left out."""
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
    """Note how an attempt went; no effect once the lease was another's.

    Args:
        connection: of the transaction.
        leased: what was tried.
        state: pending if it is to be tried again.
        status: HTTP, if there was one.
        error: one word, if there was none.
        at_ms: now; for a pending one, when it is due.
    """
    pending = state is DeliveryState.PENDING
    values = {"state": state, "leased_until_ms": None, "last_status": status, "last_error": error}
    when = {"due_at_ms": at_ms} if pending else {"ended_at_ms": at_ms}
    connection.execute(update(outbox).where(_still(leased)).values({**values, **when}))


def release(connection: Connection, leased: Leased) -> None:
    """Give back what was not tried to its end."""
    values = {"leased_until_ms": None, "attempts": outbox.c.attempts - 1}
    connection.execute(update(outbox).where(_still(leased)).values(values))


def replay(connection: Connection, delivery_id: str, *, account_id: str | None = None, now_ms: int) -> Delivery | None:
    """Make a delivery due once more; None if there is none of that id, or not of that account."""
    mine = and_(outbox.c.id == delivery_id, *(() if account_id is None else (outbox.c.account_id == account_id,)))
    again = {"state": DeliveryState.PENDING, "due_at_ms": now_ms, "ended_at_ms": None}
    row = connection.execute(update(outbox).where(mine).values(again).returning(outbox)).mappings().one_or_none()
    return None if row is None else _delivery(row)


def deliveries(
    connection: Connection, *, account_id: str | None = None, prediction_id: str | None = None, limit: int = PAGE
) -> list[Delivery]:
    """The log, newest first, at most PAGE of it; of one account or prediction where that is given."""
    wanted = select(outbox)
    if account_id is not None:
        wanted = wanted.where(outbox.c.account_id == account_id)
    if prediction_id is not None:
        wanted = wanted.where(outbox.c.prediction_id == prediction_id)
    newest = wanted.order_by(outbox.c.created_at_ms.desc(), outbox.c.position.desc(), outbox.c.id.desc())
    rows = connection.execute(newest.limit(max(0, min(limit, PAGE)))).mappings()
    return [_delivery(row) for row in rows]


def forget(connection: Connection, *, before_ms: int, limit: int = REMOVAL_BATCH) -> int:
    """Remove deliveries that ended before *before_ms*; how many. Call it until it returns 0."""
    ended = select(outbox.c.id).where(outbox.c.ended_at_ms < before_ms).order_by(outbox.c.ended_at_ms).limit(limit)
    ids = list(connection.execute(ended.with_for_update(skip_locked=True)).scalars())
    if ids:
        connection.execute(delete(outbox).where(outbox.c.id.in_(ids)))
    return len(ids)


def _known(connection: Connection, prediction_id: str) -> set[tuple[WebhookEvent, bool]]:
    """Which kinds of intermediate events there are, and whether one is over (True) or pending (False)."""
    wanted = select(outbox.c.event, outbox.c.state).distinct()
    rows = connection.execute(wanted.where(outbox.c.prediction_id == prediction_id, outbox.c.event.in_(_INTERMEDIATE)))
    return {(WebhookEvent(event), state != DeliveryState.PENDING) for event, state in rows}


def _row(whom: Addressee, event: WebhookEvent, now_ms: int) -> dict[str, Any]:
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
        "account_id": whom.account_id,
        "prediction_id": whom.prediction_id,
        "event": event,
        "position": position,
        "url": whom.webhook.url,
        "receiver": "/".join(whom.webhook.url.lower().split("/", 3)[:3]),
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
