"""Settlements: billed once, for emitted tokens, never beyond the hold, in one transaction."""

import asyncio
from dataclasses import replace

import pytest
from sqlalchemy import Connection, select

from corral.core.errors import UnknownPrediction
from corral.core.prediction import IllegalTransition, Prediction, Status, StoppedBy, Webhook, WebhookEvent
from corral.core.pricing import verify
from corral.store.books.ledger import Misbilled, transfer
from corral.store.runs import predictions, streams
from corral.store.runs.settlements import Settlement, record_start, settle, unfinished
from corral.store.runs.streams import LogRow
from corral.store.schema import ledger_entries, usage_records
from corral.store.webhooks import outbox
from tests.contract.store.books import DAY, DOLLAR, HOLD, NOON, PRICE, Books, ended

pytestmark = pytest.mark.anyio

HOOK = Webhook(url="https://example.com/hook", events=frozenset({WebhookEvent.COMPLETED}))
COST = 100 * 650 + 10 * 2750


async def test_settlement_bills_emitted_tokens_and_releases_the_rest(books: Books) -> None:
    prediction = await books.claim()
    books.now_ms += 1500
    settled = await books.settle(prediction)
    assert settled == await books.get(prediction)
    assert (settled.status, settled.stopped_by, settled.output) == (Status.SUCCEEDED, StoppedBy.MODEL, [["Hel", "lo."]])
    assert (settled.cost_nusd, settled.hold_nusd, settled.completion_tokens) == (COST, 0, 10)
    assert settled.completed_at_ms == NOON + 1500
    assert settled.receipt is not None
    assert verify(settled.receipt) == []
    assert await books.balance() == (DOLLAR - COST, 0)
    assert (await books.stored_key()).spent_nusd == COST
    assert await books.differences() == []


async def test_settling_twice_returns_the_stored_prediction(books: Books) -> None:
    prediction = await books.claim(webhook=HOOK)
    settled = await books.settle(prediction)
    told = await books.store.read(outbox.deliveries)
    again = await books.settle(prediction, tokens=99, status=Status.FAILED, output=None, at_ms=NOON + DAY)
    assert again == settled
    assert await books.balance() == (DOLLAR - COST, 0)
    assert await books.store.read(outbox.deliveries) == told
    assert await books.differences() == []


async def test_concurrent_settlements_bill_once(books: Books) -> None:
    prediction = await books.claim()
    ends = await asyncio.gather(*(books.settle(prediction, tokens=tokens) for tokens in range(20)))
    (cost_nusd,) = {end.cost_nusd for end in ends}
    assert cost_nusd is not None
    assert await books.balance() == (DOLLAR - cost_nusd, 0)
    assert await books.differences() == []


async def test_state_usage_messages_and_log_are_written_together(books: Books) -> None:
    prediction = await books.claim(webhook=HOOK)
    log = [LogRow(first_seq=1, last_seq=4, payload=b"\x00four"), LogRow(first_seq=5, last_seq=5, payload=b"five")]
    await books.settle(prediction, log=log)

    def look(connection: Connection) -> tuple[list[WebhookEvent], list[tuple[str, str, int]], list[LogRow]]:
        told = [delivery.event for delivery in outbox.deliveries(connection)]
        used = connection.execute(select(usage_records.c.door, usage_records.c.day, usage_records.c.cost_nusd))
        return told, [tuple(row) for row in used], streams.read_from(connection, prediction.id)

    assert await books.store.read(look) == ([WebhookEvent.COMPLETED], [("openai", "2026-01-01", COST)], log)


async def test_messages_that_cannot_be_written_leave_the_run_unsettled(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    prediction = await books.claim(webhook=replace(HOOK, events=frozenset(WebhookEvent)))
    monkeypatch.setattr(outbox, "new_id", lambda _: "msg_same")
    with pytest.raises(RuntimeError, match="database refused"):
        await books.settle(prediction)
    assert (await books.get(prediction)).status is Status.STARTING
    assert await books.balance() == (DOLLAR - HOLD, HOLD)
    assert await books.differences() == []


def dearer_than_held(settlement: Settlement) -> Settlement:
    total_nusd = PRICE.cost_nusd(prompt_tokens=100, completion_tokens=201)
    receipt = replace(settlement.receipt, completion_tokens=201, total_nusd=total_nusd)
    return replace(settlement, receipt=receipt, engine_tokens=201)


WRONG = {
    "more than was held": dearer_than_held,
    "a sum that is not right": lambda s: replace(s, receipt=replace(s.receipt, total_nusd=COST - 1)),
    "another price": lambda s: replace(
        s, receipt=replace(s.receipt, output_nusd=2749, total_nusd=100 * 650 + 10 * 2749)
    ),
    "another price list": lambda s: replace(s, receipt=replace(s.receipt, price_version="x@2020-01-01")),
    "another model": lambda s: replace(s, receipt=replace(s.receipt, model="meta/llama-2-7b-chat")),
    "more of the prompt than there is": lambda s: replace(
        s, receipt=replace(s.receipt, prompt_tokens=101, total_nusd=101 * 650 + 10 * 2750)
    ),
    "more tokens than the engine delivered": lambda s: replace(s, engine_tokens=9),
    "nobody's reason": lambda s: replace(s, receipt=replace(s.receipt, stopped_by="whim")),
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_invalid_settlement_is_rejected_and_changes_nothing(books: Books, wrong: str) -> None:
    prediction = await books.claim()
    settlement = WRONG[wrong](ended(prediction))
    with pytest.raises(Misbilled):
        await books.store.write(lambda c: settle(c, settlement, now_ms=NOON))
    assert await books.get(prediction) == prediction
    assert await books.balance() == (DOLLAR - HOLD, HOLD)
    assert await books.differences() == []


async def test_a_run_that_never_started_may_be_settled_for_nothing(books: Books) -> None:
    prediction = await books.claim()
    plain = ended(prediction, tokens=0, status=Status.CANCELED, output=None)
    receipt = replace(plain.receipt, prompt_tokens=0, total_nusd=0, stopped_by=StoppedBy.CALLER)
    settled = await books.store.write(lambda c: settle(c, replace(plain, receipt=receipt), now_ms=NOON))
    assert (settled.cost_nusd, settled.stopped_by) == (0, StoppedBy.CALLER)
    assert await books.balance() == (DOLLAR, 0)
    assert await books.differences() == []


async def test_error_text_is_stored_without_unsupported_characters(books: Books) -> None:
    prediction = await books.claim()
    settled = await books.settle(prediction, status=Status.FAILED, output=None, error="bad \x00 and \ud800")
    assert settled.error == "bad \ufffd and ?"
    assert (await books.get(prediction)).error == settled.error


async def test_a_run_cannot_be_settled_as_running(books: Books) -> None:
    prediction = await books.claim()
    await books.store.write(lambda c: record_start(c, prediction.id, now_ms=NOON))
    with pytest.raises(IllegalTransition):
        await books.settle(prediction, status=Status.PROCESSING)


async def test_another_account_cannot_settle_a_prediction(books: Books) -> None:
    prediction = await books.claim()
    other = await Books.begin(books.store)
    settlement = ended(replace(prediction, account_id=other.account.id))
    with pytest.raises(UnknownPrediction):
        await books.store.write(lambda c: settle(c, settlement, now_ms=NOON))


async def test_the_first_token_is_noted_once(books: Books) -> None:
    prediction = await books.claim()
    assert await books.store.write(lambda c: record_start(c, prediction.id, now_ms=NOON + 5))
    assert not await books.store.write(lambda c: record_start(c, prediction.id, now_ms=NOON + 9))
    stored = await books.get(prediction)
    assert (stored.status, stored.started_at_ms) == (Status.PROCESSING, NOON + 5)
    assert (await books.settle(prediction, started_at_ms=NOON + 99)).started_at_ms == NOON + 5
    assert not await books.store.write(lambda c: record_start(c, prediction.id, now_ms=NOON + 9))


async def test_settlement_may_set_the_time_of_the_first_token(books: Books) -> None:
    prediction = await books.claim()
    assert (await books.settle(prediction, started_at_ms=NOON + 7)).started_at_ms == NOON + 7


async def test_unfinished_predictions_are_found_with_their_price_oldest_first(books: Books) -> None:
    first = await books.claim()
    books.now_ms += 1
    over, second = await books.claim(), await books.claim(background=True)
    await books.settle(over)
    await books.store.write(lambda c: streams.append(c, second.id, [], engine_tokens=3))
    found = await books.store.read(unfinished)
    assert [(f.prediction, f.price, f.engine_tokens) for f in found] == [(first, PRICE, 0), (second, PRICE, 3)]


async def test_the_agreed_price_of_a_prediction_is_kept(books: Books) -> None:
    prediction = await books.claim()
    await books.settle(prediction)
    assert await books.store.read(lambda c: predictions.price_in(predictions.row_of(c, None, prediction.id))) == PRICE


async def test_a_transfer_that_does_not_sum_to_zero_is_refused(books: Books) -> None:
    def steal(connection: Connection) -> None:
        transfer(connection, "t", kind="hold", amounts_nusd={"revenue": 1, "funding": -2}, at_ms=NOON)

    with pytest.raises(Misbilled, match="-1, not to 0"):
        await books.store.write(steal)


async def test_the_ledger_itself_refuses_a_second_settlement(books: Books) -> None:
    prediction = await books.claim()
    await books.settle(prediction)

    def again(connection: Connection) -> Prediction | None:
        amounts = {f"held:{books.account.id}": -HOLD, "revenue": HOLD}
        transfer(connection, f"settle:{prediction.id}", kind="settle", amounts_nusd=amounts, at_ms=NOON)

    with pytest.raises(RuntimeError, match="refused"):
        await books.store.write(again)


@pytest.mark.parametrize("table", [ledger_entries, usage_records], ids=lambda t: t.name)
@pytest.mark.parametrize("change", ["update", "delete"])
async def test_ledger_and_usage_cannot_be_changed(books: Books, table: object, change: str) -> None:
    await books.settle(await books.claim())
    statement = table.delete() if change == "delete" else table.update().values(prediction_id=None)
    with pytest.raises(RuntimeError):
        await books.store.write(lambda c: c.execute(statement))
    assert await books.differences() == []
