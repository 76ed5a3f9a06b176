"""Reconcile reports every row changed outside the store."""

import re
import sqlite3

import psycopg
import pytest

from corral.store.books.counters import count_tokens
from corral.store.runs import streams
from tests.contract.store.books import FREE, Books

pytestmark = pytest.mark.anyio

TAMPERINGS = {
    "UPDATE ledger_entries SET amount_nusd = amount_nusd + 1 WHERE book = 'revenue'": [
        r"Transfer settle:\d+ sums to 1 ",
        r"Prediction \d+ cost: 92500 is stored, the ledger's revenue says 92501",
        r"Revenue: 92501 is stored, all usage says 92500",
    ],
    "UPDATE accounts SET available_nusd = available_nusd + 1": [r"Account acct_\w+ available: .* the ledger says"],
    "UPDATE accounts SET held_nusd = held_nusd + 1": [r"held: .* the ledger says", r"held: .* unfinished predictions"],
    "UPDATE accounts SET spent_that_day_nusd = 7": [r"on 2026-01-01 spent: 7 is stored, its usage says 92500"],
    "UPDATE accounts SET spent_that_month_nusd = 7": [r"in 2026-01 spent: 7 is stored, its usage says 92500"],
    "UPDATE api_keys SET spent_nusd = 0": [r"Key key_\w+ spent: 0 is stored, its usage and holds says 707500"],
    "DELETE FROM usage_records WHERE cost_nusd > 0": [r"Prediction \d+ has no usage record", "Revenue: ", "Key "],
    "UPDATE usage_records SET cost_nusd = 1 WHERE cost_nusd > 0": [r"cost: 92500 is stored, its usage record says 1"],
    "UPDATE usage_records SET completion_tokens = 1": [r"completion tokens: 10 is stored, its usage record says 1"],
    "DELETE FROM ledger_entries WHERE kind = 'settle'": [r"has 1 hold transfers and 0 settlements", "Revenue: "],
    "DELETE FROM ledger_entries WHERE kind = 'hold'": [r"has 0 hold transfers instead of 1", "available: "],
    "DELETE FROM ledger_entries WHERE kind = 'credit'": ["available: .* the ledger says -"],
    "UPDATE ledger_entries SET book = 'elsewhere' WHERE book LIKE 'held:%'": ["a book 'elsewhere' without an account"],
    "UPDATE predictions SET cost_nusd = 1 WHERE cost_nusd > 0": [
        r"cost: 1 is stored, its usage",
        r"cost: 1 is stored, the ledger",
        r"cost_nusd is 1, its receipt says 92500",
    ],
    "UPDATE predictions SET receipt = NULL WHERE cost_nusd > 0": [r"Prediction \d+ has no receipt"],
    "UPDATE predictions SET receipt = '{}' WHERE cost_nusd > 0": [r"Prediction \d+: The receipt lacks account_id"],
    "UPDATE predictions SET stopped_by = 'caller' WHERE cost_nusd > 0": [r"stopped_by is 'caller', its receipt says"],
    "UPDATE predictions SET model = 'x' WHERE cost_nusd > 0": [r"model is 'x', its receipt says"],
    "UPDATE predictions SET hold_nusd = 1 WHERE hold_nusd > 0": [r"held: 1 is stored, the ledger says 615000"],
    "UPDATE predictions SET engine_tokens = engine_tokens + 1 WHERE cost_nusd > 0": [
        "Engines delivered 23 tokens, predictions received 24"
    ],
    "UPDATE engine_counters SET delivered_tokens = 0": ["Engines delivered 0 tokens, predictions received 23"],
    "UPDATE usage_records SET prediction_id = (SELECT id FROM predictions WHERE hold_nusd > 0) WHERE cost_nusd > 0": [
        r"is starting, but was billed",
        r"has no usage record",
    ],
}


def tamper(url: str, statement: str) -> None:
    """Execute SQL with triggers and foreign keys disabled."""
    if url.startswith("sqlite"):
        file = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            file.execute(f"DROP TRIGGER {name}")
        changed = file.execute(statement).rowcount
        file.close()
    else:
        with psycopg.connect(url) as connection:
            connection.execute("SET session_replication_role = replica")
            changed = connection.execute(statement.encode()).rowcount
    assert changed > 0


@pytest.mark.parametrize("statement", TAMPERINGS)
async def test_reconcile_reports_every_tampered_value(books: Books, url: str, statement: str) -> None:
    await books.settle(await books.claim())
    await books.settle(await books.claim(price=FREE), price=FREE)
    running = await books.claim()
    await books.store.write(lambda c: streams.append(c, running.id, [], engine_tokens=3))
    await books.store.write(lambda c: count_tokens(c, "gateway", delivered=3, discarded=9, replayed=9))
    assert await books.differences() == []
    tamper(url, statement)
    differences = "\n".join(await books.differences())
    for said in TAMPERINGS[statement]:
        assert re.search(said, differences), (said, differences)


async def test_engine_tokens_are_summed_over_all_gateway_processes(books: Books) -> None:
    prediction = await books.claim()
    await books.settle(prediction)
    await books.store.write(lambda c: count_tokens(c, "another life", delivered=5))
    assert await books.differences() == ["Engines delivered 15 tokens, predictions received 10."]
