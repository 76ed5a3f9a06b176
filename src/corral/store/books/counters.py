"""Token counters per gateway process. ``reconcile`` compares them with the sum over predictions."""

from typing import Final

from sqlalchemy import Connection, bindparam, update

from corral.store.databases.inserts import insert_if_absent
from corral.store.schema import engine_counters

_ZEROS: Final = {"delivered_tokens": 0, "discarded_tokens": 0, "replayed_tokens": 0}
_ADD: Final = (
    update(engine_counters)
    .where(engine_counters.c.epoch == bindparam("of"))
    .values(
        delivered_tokens=engine_counters.c.delivered_tokens + bindparam("delivered"),
        discarded_tokens=engine_counters.c.discarded_tokens + bindparam("discarded"),
        replayed_tokens=engine_counters.c.replayed_tokens + bindparam("replayed"),
    )
)
_PUT: Final = (
    update(engine_counters)
    .where(engine_counters.c.epoch == bindparam("of"))
    .values(
        delivered_tokens=bindparam("delivered"),
        discarded_tokens=bindparam("discarded"),
        replayed_tokens=bindparam("replayed"),
    )
)


def put_tokens(connection: Connection, epoch: str, delivered: int, discarded: int, replayed: int) -> None:
    """Set the counters of *epoch*. Idempotent."""
    insert_if_absent(connection, engine_counters, {"epoch": epoch, **_ZEROS})
    connection.execute(_PUT, {"of": epoch, "delivered": delivered, "discarded": discarded, "replayed": replayed})


def count_tokens(
    connection: Connection, epoch: str, *, delivered: int = 0, discarded: int = 0, replayed: int = 0
) -> None:
    """Add to the counters of *epoch*, the id of a gateway process. Must be the last lock of a transaction."""
    amounts = {"delivered": delivered, "discarded": discarded, "replayed": replayed}
    if connection.execute(_ADD, {"of": epoch, **amounts}).rowcount == 0:
        insert_if_absent(connection, engine_counters, {"epoch": epoch, **_ZEROS})
        connection.execute(_ADD, {"of": epoch, **amounts})
