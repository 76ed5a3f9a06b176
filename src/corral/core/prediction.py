"""Predictions and their status, as a state machine.

::

    STARTING ──> PROCESSING ──> SUCCEEDED | FAILED | CANCELED
        └──────────────────────────────────> FAILED | CANCELED
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from corral.core.errors import CorralError

WEB: Final = "web"
"""Door name of predictions that were created on a web page."""


class Status(StrEnum):
    """Status of a prediction; the values are Replicate's."""

    STARTING = "starting"
    """Accepted, its worst-case cost held; waiting for the engine."""
    PROCESSING = "processing"
    """The engine has emitted a token."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def terminal(self) -> bool:
        """Whether this status is final; the cost is settled too."""
        return self in _TERMINAL


_TERMINAL = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELED})
_TRANSITIONS = {
    Status.STARTING: frozenset({Status.PROCESSING, Status.FAILED, Status.CANCELED, Status.SUCCEEDED}),
    Status.PROCESSING: _TERMINAL,
}


class IllegalTransition(CorralError):
    """The prediction's status does not allow this change."""


def check_transition(current: Status, new: Status) -> None:
    """Check that a prediction may change from one status to another.

    Raises:
        IllegalTransition: *current* cannot change to *new*.
    """
    if new not in _TRANSITIONS.get(current, frozenset()):
        raise IllegalTransition(f"A prediction with status '{current}' cannot change to '{new}'.")


class StoppedBy(StrEnum):
    """What ended a run; part of the receipt."""

    MODEL = "model"
    """The model emitted its end-of-sequence token."""
    STOP_STRING = "stop_string"
    LIMIT = "limit"
    """``max_tokens`` or the context length was reached."""
    CALLER = "caller"
    """Cancelled by a request."""
    DISCONNECT = "disconnect"
    """The client disconnected."""
    DEADLINE = "deadline"
    ENGINE = "engine"
    """The engine failed."""
    RESTART = "restart"
    """The gateway restarted, and no client waits for the answer."""
    REFUSED = "refused"
    """The input was invalid; nothing was run."""
    NOT_ADMITTED = "not_admitted"
    """The engine refused the run, and the request was answered with that error. Not listed."""


class WebhookEvent(StrEnum):
    """Event of a prediction that a webhook can be called for; the values are Replicate's."""

    START = "start"
    OUTPUT = "output"
    LOGS = "logs"
    COMPLETED = "completed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """Webhook of a prediction: the URL to call, and for which events."""

    url: str
    events: frozenset[WebhookEvent]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """A stored prediction: one call to a model. Times are Unix milliseconds, money is nano-dollars."""

    id: str
    """26 characters of base32."""
    account_id: str
    key_id: str
    door: str
    """``openai``, ``replicate``, ``deepinfra``, or ``WEB``."""
    model: str
    """Id of the model in the catalog, also if the caller used an alias."""
    version: str
    """Public version of the model: digest or name of its weights."""
    status: Status
    background: bool
    """Continues without its client, and resumes after a restart of the server."""
    created_at_ms: int
    input: dict[str, Any] | None
    """The core request as JSON data, with data of the door; None if purged or in privacy mode."""
    output: list[list[str]] | None
    """Text chunks of each choice; joined, they are its answer. Append-only. None before the first output, and if
    purged or in privacy mode."""
    data_removed: bool
    error: str | None
    seed: int | None
    prompt_tokens: int
    completion_tokens: int
    """Billed tokens of all choices together."""
    hold_nusd: int
    """Worst-case cost held while it runs; 0 afterwards."""
    cost_nusd: int | None
    """None until settled."""
    stopped_by: StoppedBy | None
    receipt: dict[str, Any] | None
    started_at_ms: int | None
    """Time of the first token."""
    completed_at_ms: int | None
    admitted_at_ms: int | None = None
    """When the engine added the run to its batch; None if it never did."""
    deadline_at_ms: int | None = None
    """When the run is stopped if it has not ended."""
    stops: list[int | None] | None = None
    """For each choice, the index of the stop string that ended it. None until the prediction succeeded."""
    webhook: Webhook | None = None
    weights_id: str | None = None
    """Weights that compute it, see ``EngineInfo.weights_id``. None if it was never admitted or predates the field."""
    prompt_format: str | None = None
    """How the prompt was encoded: name of the chat format, ``raw``, ``tokens``, or ``llama-2 → …`` for a prompt that
    was parsed and rendered in the model's own format."""
    prompt_digest: bytes | None = None
    """SHA-256 of the prompt's token ids; None if purged or in privacy mode."""
    notes: dict[str, Any] | None = None
    """Data of the door that is kept when the text is purged; never contains prompt or answer."""

    @property
    def texts(self) -> list[str] | None:
        """The text of each choice so far; None if there is no output."""
        return None if self.output is None else ["".join(chunks) for chunks in self.output]
