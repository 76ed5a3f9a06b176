"""Reports on usage: tokens and costs, spending, receipts, and the consistency check of the books."""

from collections.abc import Callable
from datetime import date, timedelta
from functools import partial
from typing import Any

from corral.core.errors import InvalidRequest, NotFound
from corral.store.books import usage
from corral.store.books.days import day_of
from corral.store.books.reconcile import reconcile
from corral.store.books.usage import Dimension, Spend, Usage
from corral.store.runs import predictions
from corral.store.store import Connection, Store

__all__ = ["Dimension", "Spend", "Usage", "UsageReports"]


class UsageReports:
    """Reads usage, spending and receipts, and checks that the books agree."""

    def __init__(self, store: Store, *, clock: Callable[[], float]) -> None:
        """Create the service over *store*; *clock* returns Unix time in seconds."""
        self._store = store
        self._clock = clock

    async def totals(
        self,
        *,
        account_id: str | None,
        by: tuple[Dimension, ...],
        since_day: str | None = None,
        until_day: str | None = None,
    ) -> list[Usage]:
        """Sum tokens and cost by the dimensions *by*, from *since_day* to *until_day* inclusive."""
        wanted = partial(usage.usage, account_id=account_id, by=by, since_day=since_day, until_day=until_day)
        return await self._store.read(wanted)

    async def spend(self, account_id: str) -> Spend:
        """Get what the account has spent today and this month, in UTC.

        Raises:
            NotFound: the account does not exist.
        """
        found = await self._store.read(partial(usage.spend, account_id=account_id, now_ms=self._now_ms()))
        if found is None:
            raise NotFound(f"There is no account '{account_id}'.", param="account")
        return found

    async def receipt(self, prediction_id: str) -> dict[str, Any]:
        """Get the receipt of any account's prediction. Operators only.

        Raises:
            UnknownPrediction: no prediction has this id.
            InvalidRequest: the prediction has not ended.
        """

        def work(connection: Connection) -> dict[str, Any]:
            found = predictions.find(connection, prediction_id)
            if found.receipt is None:
                raise InvalidRequest(f"The prediction is {found.status}; it gets a receipt when it ends.")
            return found.receipt

        return await self._store.read(work)

    async def reconcile(self) -> list[str]:
        """Check the ledger, predictions and counters against each other; return one sentence for each difference."""
        return await self._store.read(reconcile)

    def last_days(self, count: int) -> list[str]:
        """List the last *count* days in UTC as ISO dates, ending with today."""
        today = date.fromisoformat(day_of(self._now_ms()))
        return [(today - timedelta(days=back)).isoformat() for back in reversed(range(count))]

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)
