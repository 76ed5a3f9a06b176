"""How long predictions took, as stored."""

import pytest

from corral.core.prediction import Status
from corral.store.runs.latencies import Timing, timings
from tests.contract.store.books import NOON, Books

pytestmark = pytest.mark.anyio


async def ran(books: Books, *, at_ms: int, first_token_ms: int = 40, decode_ms: int = 900, tokens: int = 10) -> None:
    books.now_ms = at_ms
    await books.settle(
        await books.claim(),
        tokens=tokens,
        started_at_ms=at_ms + first_token_ms,
        at_ms=at_ms + first_token_ms + decode_ms,
    )


async def seen(books: Books, *, since_ms: int = 0, limit: int = 10) -> list[Timing]:
    return await books.store.read(lambda c: timings(c, books.account.id, since_ms=since_ms, limit=limit))


async def test_latencies_list_the_newest_runs_first(books: Books) -> None:
    await ran(books, at_ms=NOON, tokens=5)
    await ran(books, at_ms=NOON + 1000, first_token_ms=70, decode_ms=200, tokens=3)
    newest = Timing(first_token_ms=70, decode_ms=200, completion_tokens=3, status=Status.SUCCEEDED)
    older = Timing(first_token_ms=40, decode_ms=900, completion_tokens=5, status=Status.SUCCEEDED)
    assert await seen(books) == [newest, older]
    assert await seen(books, limit=1) == [newest]
    assert await seen(books, since_ms=NOON + 1000) == [newest]
    assert await seen(books, since_ms=NOON + 1001) == []


async def test_latencies_exclude_unstarted_running_and_foreign_runs(books: Books) -> None:
    await books.settle(await books.claim())  # without a first token
    await books.claim()
    await ran(await Books.begin(books.store), at_ms=NOON)
    assert await seen(books) == []


async def test_a_clock_that_was_set_back_gives_no_negative_time(books: Books) -> None:
    await ran(books, at_ms=NOON, first_token_ms=-500, decode_ms=400)
    assert [timing.first_token_ms for timing in await seen(books)] == [0]
