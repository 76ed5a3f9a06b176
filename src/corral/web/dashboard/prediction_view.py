"""View of a prediction for its page and the list."""

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
    """Event in the life of a prediction."""

    at_ms: int
    after_s: str
    """Seconds since the prediction was created."""
    text: str


def log_lines(prediction: Prediction) -> list[LogLine]:
    """Events in order; none contains prompt or answer text."""
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
    """Figures in a fixed order; a dash for unknown ones."""
    started_at_ms = prediction.started_at_ms
    first_s = None if started_at_ms is None else (started_at_ms - prediction.created_at_ms) / 1000
    generated, *others = of_prediction(prediction)
    return [generated, Figure(name="First token after", value=_seconds(first_s)), *others]


def text_gone(prediction: Prediction) -> str | None:
    """Reason why there is no text; None if there may be some."""
    if not prediction.data_removed:
        return None
    if not prediction.status.terminal:
        return "The key of this prediction is in privacy mode: neither input nor output is ever stored."
    return (
        "Input and output are not stored: their retention time is over, or the API key is in privacy mode. "
        "Counts, cost and receipt are kept."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class InputField:
    """Field of the input: a text, or the messages of a conversation."""

    name: str
    text: str
    """Values that are not text are shown as JSON."""
    turns: tuple[tuple[str, str], ...] = ()
    """Role and text of each message; empty if the field is not a conversation."""


def input_fields(prediction: Prediction) -> list[InputField] | None:
    """Fields of the input; None if it is not stored."""
    if prediction.input is None:
        return None
    return [
        InputField(name=name, text=value if isinstance(value, str) else _json(value), turns=_turns(name, value))
        for name, value in _input(prediction).items()
    ]


def document(prediction: Prediction) -> str:
    """The prediction as JSON."""
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
    """Format Unix milliseconds as ``2026-01-31T12:00:00.123Z``."""
    text = datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{at_ms % 1000:03d}Z"


def _input(prediction: Prediction) -> dict[str, Any]:
    return {} if prediction.input is None else prediction.input["shown"]


def _turns(name: str, value: Any) -> tuple[tuple[str, str], ...]:
    """Messages of a conversation, if each has a role and one text."""
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
    """Name of an API as part of a sentence."""
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
