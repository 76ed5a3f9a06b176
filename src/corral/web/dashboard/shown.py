"""A prediction as its page and the list show it: what is known, and what is not kept, said plainly. Pure."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, cast

from corral.core.prediction import WEB, Prediction, Status, StoppedBy
from corral.core.pricing import usd
from corral.web.measures import UNKNOWN, Figure, of_prediction

_STOPPED: Final[dict[StoppedBy, str]] = {
    StoppedBy.MODEL: "the model ended its answer",
    StoppedBy.STOP_STRING: "a stop string was met",
    StoppedBy.LIMIT: "the limit of tokens was reached",
    StoppedBy.CALLER: "canceled by request",
    StoppedBy.DISCONNECT: "the client went away",
    StoppedBy.DEADLINE: "its deadline came",
    StoppedBy.ENGINE: "the engine failed",
    StoppedBy.RESTART: "the server was restarted",
    StoppedBy.REFUSED: "the input was refused",
    StoppedBy.NOT_ADMITTED: "the engine did not take it",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """Something that happened to a prediction."""

    at_ms: int
    after_s: str
    """Seconds since it was made."""
    text: str


def log_lines(prediction: Prediction) -> list[LogLine]:
    """What is known of its way, in order; none of it is text of prompt or answer."""
    moments: list[tuple[int | None, str]] = [
        (prediction.created_at_ms, f"Accepted through {way_in(prediction.door)}."),
        (prediction.admitted_at_ms, _admitted(prediction)),
        (prediction.started_at_ms, "First token."),
    ]
    if prediction.status.terminal:
        moments.append((prediction.completed_at_ms, _ended(prediction)))
    return [
        LogLine(at_ms=at_ms, after_s=f"{max(0, at_ms - prediction.created_at_ms) / 1000:.2f}", text=text)
        for at_ms, text in moments
        if at_ms is not None
    ]


def metrics(prediction: Prediction) -> list[Figure]:
    """Its figures, always the same ones in the same order: a dash stands for what is not known yet."""
    started_at_ms = prediction.started_at_ms
    first_s = None if started_at_ms is None else (started_at_ms - prediction.created_at_ms) / 1000
    generated, *others = of_prediction(prediction)
    return [generated, Figure(name="First token after", value=_seconds(first_s)), *others]


def text_gone(prediction: Prediction) -> str | None:
    """Why there is no text to show; None if there may be some."""
    if not prediction.data_removed:
        return None
    if not prediction.status.terminal:
        return "The key of this prediction is in privacy mode: neither input nor output is ever stored."
    return (
        "Input and output are not stored: their time was up, or the key is in privacy mode. Counts, cost and receipt "
        "are kept."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class InputField:
    """A field of the input as the caller gave it: a text, or the turns of a conversation."""

    name: str
    text: str
    """What is no text, as JSON."""
    turns: tuple[tuple[str, str], ...] = ()
    """Who speaks and what is said; none where the field is no conversation."""


def input_fields(prediction: Prediction) -> list[InputField] | None:
    """Each field of the input; None if it is not kept."""
    if prediction.input is None:
        return None
    return [
        InputField(name=name, text=value if isinstance(value, str) else _json(value), turns=_turns(name, value))
        for name, value in _input(prediction).items()
    ]


def document(prediction: Prediction) -> str:
    """The prediction as JSON, for people who prefer to read that."""
    return _json(
        {
            "id": prediction.id,
            "model": prediction.model,
            "version": prediction.version,
            "door": prediction.door,
            "status": prediction.status,
            "input": None if prediction.input is None else _input(prediction),
            "output": prediction.texts,
            "error": prediction.error,
            "data_removed": prediction.data_removed,
            "created_at": iso(prediction.created_at_ms),
            "started_at": None if prediction.started_at_ms is None else iso(prediction.started_at_ms),
            "completed_at": None if prediction.completed_at_ms is None else iso(prediction.completed_at_ms),
            "usage": {
                "prompt_tokens": prediction.prompt_tokens,
                "completion_tokens": prediction.completion_tokens,
                "cost_usd": None if prediction.cost_nusd is None else usd(prediction.cost_nusd),
            },
        }
    )


def iso(at_ms: int) -> str:
    """A Unix time in milliseconds as ``2026-01-31T12:00:00.123Z``."""
    text = datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{at_ms % 1000:03d}Z"


def _input(prediction: Prediction) -> dict[str, Any]:
    return {} if prediction.input is None else prediction.input["shown"]


def _turns(name: str, value: Any) -> tuple[tuple[str, str], ...]:
    """The turns of ``messages``, if each is a role with one text."""
    if name != "messages" or not isinstance(value, list):
        return ()
    turns: list[tuple[str, str]] = []
    for each in cast("list[Any]", value):
        match each:
            case {"role": str(role), "content": str(content)}:
                turns.append((role, content))
            case _:
                return ()
    return tuple(turns)


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def way_in(door: str) -> str:
    """A door as part of a sentence."""
    return "the playground" if door == WEB else f"the {door} door"


def _admitted(prediction: Prediction) -> str:
    return "Taken up by the engine" + ("." if prediction.seed is None else f"; seed {prediction.seed}.")


def _ended(prediction: Prediction) -> str:
    reason = "" if prediction.stopped_by is None else f": {_STOPPED[prediction.stopped_by]}"
    match prediction.status:
        case Status.SUCCEEDED:
            return f"Succeeded{reason}."
        case Status.CANCELED:
            return f"Canceled{reason}."
        case Status.FAILED:
            return f"Failed{reason}."
        case Status.STARTING | Status.PROCESSING:
            raise ValueError("a prediction that runs has not ended")


def _seconds(seconds: float | None) -> str:
    return UNKNOWN if seconds is None else f"{max(0.0, seconds):.2f} s"
