"""What a run writes: its claim before, its progress, its settlement after. Pure: values in, values out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from corral.core.generation import Delta, GenerationEvent
from corral.core.pricing import RECEIPT_FORMAT, Price, Receipt, tokens_digest
from corral.service.live import LiveRun, Outcome
from corral.service.ports import Ask
from corral.service.prepare import Prepared
from corral.service.records import encode_events, request_record
from corral.store.claims import Claim, IdempotentRequest
from corral.store.settlements import Settlement, Unfinished
from corral.store.streams import LogRow


def claim_of(live: LiveRun) -> Claim:
    """What a run claims before anything is computed: its place, its idempotency key, its worst case."""
    ask, prepared, idempotency = live.ask, live.prepared, live.ask.idempotency
    return Claim(
        prediction_id=live.id,
        account_id=ask.caller.account_id,
        key_id=ask.caller.key_id,
        door=ask.door,
        model=prepared.model.id,
        version=prepared.model.weights,
        background=ask.goes_on,
        input=_input_record(ask, prepared),
        seed=prepared.seed,
        prompt_tokens=len(prepared.prompt_ids),
        max_completion_tokens=prepared.max_completion_tokens,
        price=live.price,
        max_cost_nusd=ask.max_cost_nusd,
        idempotency=(
            IdempotentRequest(key=idempotency.key, body_digest=idempotency.body_digest) if idempotency else None
        ),
    )


def _input_record(ask: Ask, prepared: Prepared) -> dict[str, Any]:
    """What is kept of a call: the request as it was closed, to take it up again, and the input as it was given."""
    stopping = replace(ask.request.stopping, max_tokens=prepared.max_new_tokens)
    closed = replace(ask.request, seed=prepared.seed, stopping=stopping)
    return {"request": request_record(closed), "shown": dict(ask.shown_input)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Emitted:
    """What a run had given when it ended, wherever that is known from."""

    prediction_id: str
    account_id: str
    model: str
    price: Price
    prompt_tokens: int
    """0 for a run whose prompt the engine never read: it costs nothing."""
    choices: tuple[tuple[int, ...], ...]
    """Ids that count, per choice."""
    completion_tokens: int
    engine_tokens: int
    texts: list[str] | None
    started_at_ms: int | None


def emitted_by(live: LiveRun) -> Emitted:
    """What a run has given so far."""
    return Emitted(
        prediction_id=live.id,
        account_id=live.ask.caller.account_id,
        model=live.prepared.model.id,
        price=live.price,
        prompt_tokens=live.usage.prompt_tokens if len(live.log) else 0,
        choices=tuple(tuple(answer.ids) for answer in live.answers),
        completion_tokens=live.usage.completion_tokens,
        engine_tokens=live.engine_tokens,
        texts=live.texts,
        started_at_ms=live.started_at_ms,
    )


def emitted_before(left: Unfinished, events: Sequence[GenerationEvent]) -> Emitted:
    """What a run had given when its process died, as far as its log was stored.

    In privacy mode there is no log, only a count: it is billed, and the receipt's digest is that of no tokens.
    """
    stored = left.prediction
    deltas = [event for event in events if isinstance(event, Delta)]
    choices = range(stored.input["request"]["choices"] if stored.input is not None else 0)
    texts = ["".join(delta.text for delta in deltas if delta.choice == choice) for choice in choices]
    return Emitted(
        prediction_id=stored.id,
        account_id=stored.account_id,
        model=stored.model,
        price=left.price,
        prompt_tokens=stored.prompt_tokens if events or left.engine_tokens else 0,
        choices=tuple(
            tuple(chain.from_iterable(delta.ids for delta in deltas if delta.choice == choice)) for choice in choices
        ),
        completion_tokens=sum(len(delta.ids) for delta in deltas) if deltas else left.engine_tokens,
        engine_tokens=left.engine_tokens,
        texts=texts if events else None,
        started_at_ms=stored.started_at_ms,
    )


def rows_of(live: LiveRun, last: Sequence[GenerationEvent] = ()) -> list[LogRow]:
    """The part of the log that is not stored yet, with *last* at its end."""
    fresh = live.log.since(live.stored_events)
    events = [*(event for _, event in fresh), *last]
    if not events:
        return []
    before = live.log.number_before(live.stored_events)
    end = (fresh[-1][0] if fresh else before) + len(last)
    return [LogRow(first_seq=before + 1, last_seq=end, payload=encode_events(events))]


def settlement_of(emitted: Emitted, outcome: Outcome, rows: Sequence[LogRow], *, now_ms: int) -> Settlement:
    """How a run ended, with everything that follows from it."""
    price = emitted.price
    receipt = Receipt(
        format=RECEIPT_FORMAT,
        prediction_id=emitted.prediction_id,
        account_id=emitted.account_id,
        model=emitted.model,
        price_version=price.version,
        input_nusd=price.input_nusd,
        output_nusd=price.output_nusd,
        prompt_tokens=emitted.prompt_tokens,
        completion_tokens=emitted.completion_tokens,
        total_nusd=price.cost_nusd(prompt_tokens=emitted.prompt_tokens, completion_tokens=emitted.completion_tokens),
        stopped_by=outcome.stopped_by,
        tokens_digest=tokens_digest(emitted.choices),
        completed_at_ms=now_ms,
    )
    return Settlement(
        receipt=receipt,
        status=outcome.status,
        output=emitted.texts,
        error=None if outcome.error is None else str(outcome.error),
        engine_tokens=emitted.engine_tokens,
        started_at_ms=emitted.started_at_ms,
        log=rows,
    )
