"""Encode requests and events for the store, and decode them to show or resume a run."""

from collections.abc import Iterable
from typing import Any, assert_never

import msgspec

from corral.core.caller import Caller
from corral.core.generation import (
    ChatPrompt,
    ChoiceEnded,
    Constraint,
    Delta,
    Finished,
    GenerationEvent,
    GenerationRequest,
    Prompt,
    Queued,
    RawPrompt,
    Sampling,
    Started,
    Stopping,
    TokenPrompt,
)
from corral.core.prediction import Prediction
from corral.service.ports import Ask

_PROMPTS = {"chat": ChatPrompt, "raw": RawPrompt, "tokens": TokenPrompt}
_EVENTS = {"started": Started, "delta": Delta, "ended": ChoiceEnded, "finished": Finished}
_EVENT_NAMES = {kind: name for name, kind in _EVENTS.items()}


def request_record(request: GenerationRequest) -> dict[str, Any]:
    """Encode a request as JSON-ready data."""
    record = msgspec.to_builtins(request)
    record["prompt"] = {_prompt_kind(request.prompt): record["prompt"]}
    return record


def request_of(record: dict[str, Any]) -> GenerationRequest:
    """Decode a stored request.

    Raises:
        msgspec.ValidationError: not a record of this program.
    """
    ((kind, prompt),) = record["prompt"].items()
    return GenerationRequest(
        model=record["model"],
        prompt=msgspec.convert(prompt, _PROMPTS[kind]),
        sampling=msgspec.convert(record["sampling"], Sampling),
        stopping=msgspec.convert(record["stopping"], Stopping),
        seed=record["seed"],
        choices=record["choices"],
        constraint=msgspec.convert(record["constraint"], Constraint | None),
        echo=record["echo"],
        pieces=record["pieces"],
        top_logprobs=record.get("top_logprobs", 0),  # older rows lack it
    )


def ask_of(stored: Prediction) -> Ask:
    """Rebuild the request of a stored prediction, to resume it. Its input must not be removed."""
    record = stored.input or {}
    caller = Caller(account_id=stored.account_id, key_id=stored.key_id, scopes=frozenset())
    return Ask(
        caller=caller,
        door=stored.door,
        request=request_of(record["request"]),
        background=stored.background,
        shown_input=record["shown"],
        cancel_after_s=(
            None if stored.deadline_at_ms is None else (stored.deadline_at_ms - stored.created_at_ms) / 1000
        ),
        webhook=stored.webhook,
        notes=stored.notes or {},
    )


def _prompt_kind(prompt: Prompt) -> str:
    match prompt:
        case ChatPrompt():
            return "chat"
        case RawPrompt():
            return "raw"
        case TokenPrompt():
            return "tokens"


def encode_events(events: Iterable[GenerationEvent]) -> bytes:
    """Encode events as msgpack, for the stored log."""
    return msgspec.msgpack.encode([_event_record(event) for event in events])


def decode_events(data: bytes) -> list[GenerationEvent]:
    """Decode a row of the stored log.

    Raises:
        msgspec.MsgspecError: not a log of this program.
    """
    return [_event_of(record) for record in msgspec.msgpack.decode(data)]


def _event_record(event: GenerationEvent) -> list[Any]:
    match event:
        case Delta():  # most of a log: as small as can be
            return ["delta", event.choice, event.text, event.ids, event.logprobs, event.pieces, event.completion_tokens]
        case Started() | ChoiceEnded() | Finished():
            return [_EVENT_NAMES[type(event)], msgspec.to_builtins(event, builtin_types=(bytes,))]
        case Queued():
            raise TypeError("queue positions are not stored")
        case _:
            assert_never(event)


def _event_of(record: list[Any]) -> GenerationEvent:
    name, *fields = record
    if name == "delta":
        choice, text, ids, logprobs, pieces, completion_tokens = fields
        return Delta(
            choice=choice,
            text=text,
            ids=tuple(ids),
            logprobs=tuple(logprobs),
            pieces=tuple(pieces),
            completion_tokens=completion_tokens,
        )
    return msgspec.convert(fields[0], _EVENTS[name], builtin_types=(bytes,))
