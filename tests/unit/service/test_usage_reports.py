"""Usage reports: spending by day and month, receipts, days."""

import pytest

from corral.core.errors import InvalidRequest, UnknownPrediction
from tests.contract.store.books import DAY, NOON, Books
from tests.unit.service.account_fixtures import ClockedServices

pytestmark = pytest.mark.anyio


async def test_spend_counts_today_and_this_month(services: ClockedServices) -> None:
    books = await Books.begin(services.store)
    await books.settle(await books.claim(), tokens=10)
    cost_nusd = 100 * 650 + 10 * 2750
    spent: list[tuple[int, int]] = []
    for days in (0, 1, 31):
        services.now_ms = NOON + days * DAY
        spend = await services.usage.spend(books.account.id)
        spent.append((spend.today_nusd, spend.this_month_nusd))
    assert spent == [(cost_nusd, cost_nusd), (0, cost_nusd), (0, 0)]
    with pytest.raises(InvalidRequest, match="no account"):
        await services.usage.spend("acct_nobody")


async def test_an_operator_gets_the_receipt_of_any_account(services: ClockedServices) -> None:
    await services.accounts.create("bob")
    books = await Books.begin(services.store)
    settled = await books.settle(await books.claim())
    assert await services.usage.receipt(settled.id) == settled.receipt
    running = await books.claim()
    with pytest.raises(InvalidRequest, match="starting"):
        await services.usage.receipt(running.id)
    for nobody in ("0" * 26, "\x00", ""):
        with pytest.raises(UnknownPrediction):
            await services.usage.receipt(nobody)


async def test_last_days_end_with_today(services: ClockedServices) -> None:
    services.now_ms = NOON + DAY
    assert services.usage.last_days(3) == ["2025-12-31", "2026-01-01", "2026-01-02"]
