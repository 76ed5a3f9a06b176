"""Map runs to store records: claims, log rows, settlements, webhook events."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from corral.catalog.catalog import CatalogModel
from corral.core.generation import ChoiceEnded, Delta, GenerationEvent
from corral.core.prediction import WebhookEvent
from corral.core.pricing import RECEIPT_FORMAT, Price, Receipt, tokens_digest
from corral.service.ports import Ask
from corral.service.runs.codec import encode_events, request_record
from corral.service.runs.prepare import Prepared
from corral.service.runs.run import ActiveRun, Outcome, Run
from corral.store.runs.claims import Claim, IdempotentRequest
from corral.store.runs.settlements import Settlement, Unfinished
from corral.store.runs.streams import LogRow
from corral.store.webhooks.outbox import START_EVENTS, WebhookTarget


def claim_of(run: Run) -> Claim:
    """Build the claim of a run: its limits, idempotency key and the most it can cost."""
    ask, prepared = run.ask, run.prepared
    return Claim(
        prediction_id=run.id,
        account_id=ask.caller.account_id,
        key_id=ask.caller.key_id,
        door=ask.door,
        model=prepared.model.id,
        asked_model=ask.request.model,
        version=prepared.model.weights,
        background=ask.goes_on,
        input=_input_record(ask, prepared),
        seed=prepared.seed,
        weights_id=prepared.weights_id,
        prompt_format=prepared.prompt_format,
        prompt_digest=prepared.prompt_digest,
        prompt_tokens=len(prepared.prompt_ids),
        max_completion_tokens=prepared.max_completion_tokens,
        price=run.price,
        max_cost_nusd=ask.max_cost_nusd,
        idempotency=_idempotent(ask),
        deadline_at_ms=run.deadline_at_ms,
        webhook=ask.webhook,
        token=ask.caller.token,
        notes=dict(ask.notes),
    )


def refused_claim_of(ask: Ask, model: CatalogModel, price: Price, *, prediction_id: str) -> Claim:
    """Build the claim of a prediction that fails before it runs: no tokens, no hold."""
    return Claim(
        prediction_id=prediction_id,
        account_id=ask.caller.account_id,
        key_id=ask.caller.key_id,
        door=ask.door,
        model=model.id,
        asked_model=ask.request.model,
        version=model.weights,
        background=ask.goes_on,
        input={"request": request_record(ask.request), "shown": dict(ask.shown_input)},
        seed=None,
        weights_id=None,
        prompt_format=None,
        prompt_digest=None,
        prompt_tokens=0,
        max_completion_tokens=0,
        price=price,
        idempotency=_idempotent(ask),
        webhook=ask.webhook,
        token=ask.caller.token,
        notes=dict(ask.notes),
    )


def _idempotent(ask: Ask) -> IdempotentRequest | None:
    once = ask.idempotency
    return None if once is None else IdempotentRequest(key=once.key, body_digest=once.body_digest)


def _input_record(ask: Ask, prepared: Prepared) -> dict[str, Any]:
    """The stored input: the prepared request, to resume it after a restart, and the input as the caller gave it."""
    stopping = replace(ask.request.stopping, max_tokens=prepared.max_new_tokens)
    closed = replace(ask.request, seed=prepared.seed, stopping=stopping)
    return {"request": request_record(closed), "shown": dict(ask.shown_input)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Emitted:
    """Output of a run at its end, from memory or from the store."""

    prediction_id: str
    account_id: str
    model: str
    weights_id: str | None
    price: Price
    prompt_tokens: int
    """0 if the engine never read the prompt: the run then costs nothing."""
    choices: tuple[tuple[int, ...], ...]
    """Ids that count, per choice."""
    completion_tokens: int
    engine_tokens: int
    chunks: list[list[str]] | None
    stops: list[int | None]
    """Per choice, which of the request's stop strings ended it."""
    started_at_ms: int | None
    admitted_at_ms: int | None


def emitted_by(active: ActiveRun) -> Emitted:
    """Take a snapshot of an active run's output."""
    run, generation = active.run, active.generation
    endings = (answer.ending and answer.ending.stop for answer in generation.answers)
    return Emitted(
        prediction_id=run.id,
        account_id=run.account_id,
        model=run.prepared.model.id,
        weights_id=run.prepared.computed_weights_id if active.has_output else run.prepared.weights_id,
        price=run.price,
        prompt_tokens=active.usage.prompt_tokens if active.has_output else 0,
        choices=tuple(tuple(answer.ids) for answer in generation.answers),
        completion_tokens=generation.completion_tokens,
        engine_tokens=generation.engine_tokens,
        chunks=active.chunks,
        stops=_stops(endings, run.ask.request.stopping.stop),
        started_at_ms=generation.started_at_ms,
        admitted_at_ms=generation.admitted_at_ms,
    )


def emitted_before(left: Unfinished, events: Sequence[GenerationEvent]) -> Emitted:
    """Restore the output of a run whose process has died, as far as it was stored.

    In privacy mode only the token count is stored: it is billed, and the receipt's digest is that of no tokens.
    """
    stored = left.prediction
    deltas = [event for event in events if isinstance(event, Delta)]
    choices = range(stored.input["request"]["choices"] if stored.input is not None else 0)
    ends = {event.choice: event.stop for event in events if isinstance(event, ChoiceEnded)}
    stored_stops = stored.input["request"]["stopping"]["stop"] if stored.input is not None else ()
    chunks = [[delta.text for delta in deltas if delta.choice == choice and delta.text] for choice in choices]
    return Emitted(
        prediction_id=stored.id,
        account_id=stored.account_id,
        model=stored.model,
        weights_id=stored.weights_id,
        price=left.price,
        prompt_tokens=stored.prompt_tokens if events or left.engine_tokens else 0,
        choices=tuple(
            tuple(chain.from_iterable(delta.ids for delta in deltas if delta.choice == choice)) for choice in choices
        ),
        completion_tokens=sum(len(delta.ids) for delta in deltas) if deltas else left.engine_tokens,
        engine_tokens=left.engine_tokens,
        chunks=chunks if events else None,
        stops=_stops((ends.get(choice) for choice in choices), stored_stops),
        started_at_ms=stored.started_at_ms,
        admitted_at_ms=stored.admitted_at_ms,
    )


def _stops(ends: Iterable[str | None], stops: Sequence[str]) -> list[int | None]:
    return [None if end is None else stops.index(end) for end in ends]


def emitted_never(claim: Claim) -> Emitted:
    """No output, for a prediction that failed before it ran."""
    return Emitted(
        prediction_id=claim.prediction_id,
        account_id=claim.account_id,
        model=claim.model,
        weights_id=claim.weights_id,
        price=claim.price,
        prompt_tokens=0,
        choices=(),
        completion_tokens=0,
        engine_tokens=0,
        chunks=None,
        stops=[],
        started_at_ms=None,
        admitted_at_ms=None,
    )


Numbered = Sequence[tuple[int, GenerationEvent]]
"""Events with their numbers in the log."""


def rows_of(events: Numbered, *, after_seq: int) -> list[LogRow]:
    """Encode the events numbered above *after_seq* as rows of the stored log."""
    fresh = [(number, event) for number, event in events if number > after_seq]
    if not fresh:
        return []
    payload = encode_events(event for _, event in fresh)
    return [LogRow(first_seq=fresh[0][0], last_seq=fresh[-1][0], payload=payload)]


def without_output(emitted: Emitted) -> Emitted:
    """Drop the output and its charge, for a run whose output the database refuses to store."""
    return replace(emitted, prompt_tokens=0, choices=(), completion_tokens=0, chunks=None, stops=[])


def addressee_of(run: Run) -> WebhookTarget | None:
    """The webhook of a run's caller; None if there is none."""
    webhook = run.ask.webhook
    if webhook is None:
        return None
    return WebhookTarget(prediction_id=run.id, account_id=run.account_id, webhook=webhook)


def news_of(events: Numbered, *, begins: bool) -> list[WebhookEvent]:
    """Webhook events to send for *events*."""
    speaks = any(isinstance(event, Delta) and event.text for _, event in events)
    return [*(START_EVENTS if begins else ()), *((WebhookEvent.OUTPUT,) if speaks else ())]


def settlement_of(emitted: Emitted, outcome: Outcome, rows: Sequence[LogRow], *, now_ms: int) -> Settlement:
    """Build the settlement of a run: status, receipt, output, counters and the rest of its log."""
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
        weights_id=emitted.weights_id,
    )
    return Settlement(
        receipt=receipt,
        status=outcome.status,
        output=emitted.chunks,
        stops=emitted.stops,
        error=None if outcome.error is None else str(outcome.error),
        engine_tokens=emitted.engine_tokens,
        started_at_ms=emitted.started_at_ms,
        admitted_at_ms=emitted.admitted_at_ms,
        log=rows,
    )
