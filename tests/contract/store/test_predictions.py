"""Queries on predictions: get, list, log, usage, purge."""

from dataclasses import asdict, replace
from typing import Any

import orjson
import pytest
from sqlalchemy import Connection, func, select, text

from corral.core.errors import UnknownPrediction
from corral.core.prediction import Prediction, Status, StoppedBy
from corral.store.books.usage import Spend, Usage, spend, usage
from corral.store.runs import predictions, streams
from corral.store.runs.predictions import Filters
from corral.store.runs.streams import LogRow
from corral.store.schema import stream_rows
from tests.contract.store.books import DAY, HOLD, HOUR, NOON, PRICE, Books, ended, receipt_for, settle_counted

pytestmark = pytest.mark.anyio


async def test_predictions_of_other_accounts_are_not_found(books: Books) -> None:
    other = await Books.begin(books.store)
    prediction = await other.claim()
    with pytest.raises(UnknownPrediction):
        await books.get(prediction)
    assert await books.store.read(lambda c: predictions.page(c, books.account.id)) == []


@pytest.mark.parametrize("name", ["", "nothing", "\x00", "\ud800", "é"])
async def test_every_query_of_an_unknown_id_is_not_found(books: Books, name: str) -> None:
    with pytest.raises(UnknownPrediction):
        await books.store.read(lambda c: predictions.get(c, books.account.id, name))


async def test_pages_go_from_new_to_old_without_gap_or_repeat(books: Books) -> None:
    made = []
    for number in range(7):
        books.now_ms = NOON + number // 3  # some at the same millisecond
        made.append(await books.claim(door="replicate" if number % 2 else "openai"))
    newest_first = sorted(made, key=lambda p: (p.created_at_ms, p.id), reverse=True)

    async def after(before: str | None, door: str | None) -> list[Prediction]:
        return await books.store.read(
            lambda c: predictions.page(c, books.account.id, before=before, filters=Filters(door=door), limit=2)
        )

    async def pages(door: str | None) -> list[Prediction]:
        found: list[Prediction] = []
        while page := await after(found[-1].id if found else None, door):
            found += page
        return found

    assert await pages(None) == newest_first
    assert await pages("replicate") == [p for p in newest_first if p.door == "replicate"]
    with pytest.raises(UnknownPrediction):
        await books.store.read(lambda c: predictions.page(c, books.account.id, before="unknown"))


async def test_pages_can_be_filtered_by_model_api_and_status(books: Books) -> None:
    running = await books.claim(model="meta/llama-2-7b-chat", door="replicate")
    failed = await books.settle(await books.claim(), status=Status.FAILED, output=None, error="No.")
    told = await books.settle(await books.claim(door="replicate"))

    async def found(**terms: Any) -> set[str]:
        page = await books.store.read(lambda c: predictions.page(c, books.account.id, filters=Filters(**terms)))
        return {prediction.id for prediction in page}

    assert await found() == {running.id, failed.id, told.id}
    assert await found(model="meta/llama-2-7b-chat") == {running.id}
    assert await found(statuses=[Status.FAILED]) == {failed.id}
    assert await found(statuses=(Status.STARTING, Status.SUCCEEDED)) == {running.id, told.id}
    assert await found(statuses=(Status.SUCCEEDED,), door="replicate") == {told.id}
    assert await found(statuses=(Status.CANCELED,)) == set()
    assert await found(model="no/such") == set()


async def test_expired_text_is_purged_and_counts_and_cost_remain(books: Books) -> None:
    log = [LogRow(first_seq=1, last_seq=1, payload=b"text")]
    old = await books.settle(await books.claim(), log=log)
    running = await books.claim()
    books.now_ms += HOUR
    new = await books.settle(await books.claim())
    removed = [await books.store.write(lambda c: predictions.purge_data(c, before_ms=NOON + 1)) for _ in range(2)]
    assert removed == [1, 0]
    stored = await books.get(old)
    assert (stored.input, stored.output, stored.data_removed) == (None, None, True)
    assert (stored.cost_nusd, stored.receipt, stored.completion_tokens) == (old.cost_nusd, old.receipt, 10)
    assert await books.store.read(lambda c: streams.read_from(c, old.id)) == []
    assert await books.get(new) == new
    assert await books.get(running) == running
    assert await books.differences() == []


async def test_expired_text_is_purged_in_batches(books: Books) -> None:
    for _ in range(5):
        await books.settle(await books.claim())
    sizes = [await books.store.write(lambda c: predictions.purge_data(c, before_ms=NOON + 1, limit=2)) for _ in "1234"]
    assert sizes == [2, 2, 1, 0]


async def test_event_log_is_read_from_any_position(books: Books) -> None:
    prediction = await books.claim()
    rows = [LogRow(first_seq=n, last_seq=n + 2, payload=bytes([n])) for n in (1, 4, 7)]
    await books.store.write(lambda c: streams.append(c, prediction.id, rows[:2]))
    await books.store.write(lambda c: streams.append(c, prediction.id, rows[2:]))

    async def read(after_seq: int) -> list[LogRow]:
        return await books.store.read(lambda c: streams.read_from(c, prediction.id, after_seq=after_seq))

    assert await read(0) == rows
    assert await read(2) == rows
    assert await read(3) == rows[1:]
    assert await read(8) == rows[2:]
    assert await read(9) == []


async def test_empty_log_append_and_duplicate_row_are_rejected(books: Books) -> None:
    prediction = await books.claim()
    row = LogRow(first_seq=1, last_seq=2, payload=b"x")
    with pytest.raises(UnknownPrediction):
        await books.store.write(lambda c: streams.append(c, "unknown", [row]))
    await books.store.write(lambda c: streams.append(c, prediction.id, [row]))
    with pytest.raises(RuntimeError, match="refused"):
        await books.store.write(lambda c: streams.append(c, prediction.id, [row]))


async def test_the_log_of_a_private_run_counts_tokens_and_keeps_no_text(books: Books) -> None:
    prediction = await books.claim()
    await books.settle(prediction)
    await books.store.write(lambda c: predictions.purge_data(c, before_ms=NOON + 1))
    row = LogRow(first_seq=1, last_seq=2, payload=b"secret")
    await books.store.write(lambda c: streams.append(c, prediction.id, [row], engine_tokens=12))
    count = select(func.count()).select_from(stream_rows)
    assert await books.store.read(lambda c: c.execute(count).scalar()) == 0
    assert (await books.store.read(lambda c: predictions.row_of(c, books.account.id, prediction.id)))[
        "engine_tokens"
    ] == 12


async def test_usage_is_summed_by_the_chosen_columns(books: Books) -> None:
    other = await Books.begin(books.store)
    await books.settle(await books.claim())
    await books.settle(await books.claim(door="replicate"), tokens=20)
    books.now_ms = other.now_ms = NOON + DAY
    await books.settle(await books.claim())
    await other.settle(await other.claim())

    def plain(usage: Usage) -> tuple[str | None, str | None, int, int, int]:
        return usage.day, usage.door, usage.predictions, usage.completion_tokens, usage.cost_nusd

    small, large = 65_000 + 27_500, 65_000 + 55_000
    mine = await books.store.read(lambda c: usage(c, account_id=books.account.id))
    assert list(map(plain, mine)) == [
        ("2026-01-01", "openai", 1, 10, small),
        ("2026-01-01", "replicate", 1, 20, large),
        ("2026-01-02", "openai", 1, 10, small),
    ]
    assert {(u.model, u.key_id) for u in mine} == {("meta/llama-2-70b-chat", books.key.id)}
    days = await books.store.read(lambda c: usage(c, by=["day"], since_day="2026-01-02", until_day="2026-01-02"))
    assert list(map(plain, days)) == [("2026-01-02", None, 2, 20, 2 * small)]
    everything = await books.store.read(lambda c: usage(c, by=[]))
    assert list(map(plain, everything)) == [(None, None, 4, 50, 3 * small + large)]
    none = await books.store.read(lambda c: usage(c, by=[], since_day="2027-01-01"))
    assert list(map(plain, none)) == [(None, None, 0, 0, 0)]


async def test_spend_includes_today_this_month_and_holds(books: Books) -> None:
    await books.settle(await books.claim())
    books.now_ms += DAY
    await books.settle(await books.claim())
    await books.claim()
    cost = 65_000 + 27_500

    async def at(now_ms: int) -> Spend | None:
        return await books.store.read(lambda c: spend(c, books.account.id, now_ms=now_ms))

    assert await at(books.now_ms) == Spend(today_nusd=cost, this_month_nusd=2 * cost, held_nusd=HOLD)
    assert await at(NOON + 2 * DAY) == Spend(today_nusd=0, this_month_nusd=2 * cost, held_nusd=HOLD)
    assert await at(NOON + 31 * DAY) == Spend(today_nusd=0, this_month_nusd=0, held_nusd=HOLD)
    assert await books.store.read(lambda c: spend(c, "acct_nobody", now_ms=NOON)) is None


DAMAGES = {
    "input": ['{"shown":{"seed":99999999999999999999,"n":1' + "0" * 400 + "}}", "[]", "7", '{"shown":3}'],
    "output": ['{"a":1}', '["Hello"]', "[[1]]"],
    "webhook": ["{}", '{"url":7,"events":[]}', '{"url":"https://a.example","events":["another"]}'],
    "notes": ["[1]", '"text"'],
    "stops": ['{"0":1}', '["end"]'],
    "receipt": ["3"],
    "stopped_by": ["a reason of another version"],
}


async def test_damaged_row_is_listed_with_its_readable_fields(books: Books) -> None:
    whole = await books.settle(await books.claim())
    pairs = [(column, value) for column, values in DAMAGES.items() for value in values]
    damaged = [(await books.settle(await books.claim()), *pair) for pair in pairs]

    def damage(connection: Connection) -> None:
        for one, column, value in damaged:
            statement = text(f"UPDATE predictions SET {column} = :value WHERE id = :id")
            connection.execute(statement, {"value": value, "id": one.id})

    await books.store.write(damage)
    listed = {one.id: one for one in await books.store.read(lambda c: predictions.page(c, books.account.id))}
    assert listed[whole.id] == whole
    assert len(listed) == 1 + len(damaged)
    for one, column, value in damaged:
        shown = await books.get(one)
        assert listed[one.id] == shown
        assert (shown.status, shown.cost_nusd, shown.model) == (one.status, one.cost_nusd, one.model), (column, value)
        orjson.dumps(asdict(shown), default=list)


async def test_invalid_json_text_is_read_as_none(books: Books) -> None:
    if await books.store.read(lambda c: c.dialect.name) != "sqlite":
        return  # PostgreSQL takes JSON only
    made = await books.claim()
    await books.store.write(lambda c: c.execute(text("UPDATE predictions SET input = '{\"shown\": {', output = 'x'")))
    shown = await books.get(made)
    assert (shown.input, shown.output, shown.id) == (None, None, made.id)


async def test_prediction_rejected_with_an_error_is_not_listed(books: Books) -> None:
    refused, other = await books.claim(), await books.claim()
    receipt = replace(
        receipt_for(refused, PRICE, 0, NOON), prompt_tokens=0, total_nusd=0, stopped_by=StoppedBy.NOT_ADMITTED
    )
    ending = ended(refused, tokens=0, receipt=receipt, status=Status.FAILED, output=None, error="Too many wait.")
    await books.store.write(lambda c: settle_counted(c, replace(ending, admitted_at_ms=NOON), now_ms=NOON))
    listed = await books.store.read(lambda c: predictions.page(c, books.account.id))
    assert [one.id for one in listed] == [other.id]
    stored = await books.get(refused)
    assert (stored.status, stored.prompt_tokens, stored.admitted_at_ms) == (Status.FAILED, 0, None)
    assert await books.differences() == []
