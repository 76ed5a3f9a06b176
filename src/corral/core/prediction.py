"""A prediction: one call through any door, and its life as a state machine that refuses illegal moves.

::

    STARTING ──> PROCESSING ──> SUCCEEDED | FAILED | CANCELED
        └──────────────────────────────────> FAILED | CANCELED
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from corral.core.errors import CorralError

WEB: Final = "web"
"""The door of predictions that people ask for on a page."""


class Status(StrEnum):
    """Where a prediction is in its life; the words are Replicate's."""

    STARTING = "starting"
    """Accepted and held for; waiting for the engine."""
    PROCESSING = "processing"
    """The engine has emitted a token."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def terminal(self) -> bool:
        """Whether nothing will change any more, the bill included."""
        return self in _TERMINAL


_TERMINAL = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELED})
_MOVES = {
    Status.STARTING: frozenset({Status.PROCESSING, Status.FAILED, Status.CANCELED, Status.SUCCEEDED}),
    Status.PROCESSING: _TERMINAL,
}


class IllegalTransition(CorralError):
    """A prediction cannot go from this status to that one."""


def check_move(now: Status, then: Status) -> None:
    """Refuse what the life cycle does not allow.

    Raises:
        IllegalTransition: *then* does not follow *now*.
    """
    if then not in _MOVES.get(now, frozenset()):
        raise IllegalTransition(f"A prediction that is {now} cannot become {then}.")


class StoppedBy(StrEnum):
    """Who ended a run; on the receipt."""

    MODEL = "model"
    """End of sequence."""
    STOP_STRING = "stop_string"
    LIMIT = "limit"
    """``max_tokens`` or the context."""
    CALLER = "caller"
    """Cancelled by request."""
    DISCONNECT = "disconnect"
    """The client went away."""
    DEADLINE = "deadline"
    ENGINE = "engine"
    """The engine failed."""
    RESTART = "restart"
    """The gateway was restarted and nobody waits for the answer any more."""
    REFUSED = "refused"
    """The input could not be honoured; nothing was run."""
    NOT_ADMITTED = "not_admitted"
    """The engine did not take it, and the request was answered with that error. Such predictions are not listed."""


class WebhookEvent(StrEnum):
    """What a caller may be told of; the words are Replicate's."""

    START = "start"
    OUTPUT = "output"
    LOGS = "logs"
    COMPLETED = "completed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """Where the caller wants to be told, and of what."""

    url: str
    events: frozenset[WebhookEvent]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One call through any door, as stored. Times are Unix milliseconds, money is nano-dollars."""

    id: str
    """26 characters of base32."""
    account_id: str
    key_id: str
    door: str
    """``openai``, ``replicate``, ``deepinfra``, or ``WEB``."""
    model: str
    """Its id in the catalog, however the caller spelt it."""
    version: str
    """Digest or name of the weights that answered."""
    status: Status
    background: bool
    """Goes on without its client, and is resumed after a restart of the server."""
    created_at_ms: int
    input: dict[str, Any] | None
    """The core request as plain data, and what the door must remember; None once removed or in privacy mode."""
    output: list[list[str]] | None
    """Per choice, the text of each token that showed any; joined, the answer. Only ever grows. None until there is
    one, and once removed or in privacy mode."""
    data_removed: bool
    error: str | None
    seed: int | None
    prompt_tokens: int
    completion_tokens: int
    """Billed: all choices together."""
    hold_nusd: int
    """Held while running, 0 afterwards."""
    cost_nusd: int | None
    """None until settled."""
    stopped_by: StoppedBy | None
    receipt: dict[str, Any] | None
    started_at_ms: int | None
    """First token."""
    completed_at_ms: int | None
    admitted_at_ms: int | None = None
    """When the engine took it into its batch; None for one that never got there."""
    deadline_at_ms: int | None = None
    """When it is stopped, whatever it has by then."""
    stops: list[int | None] | None = None
    """Per choice, which of the request's stop strings ended it, counted from 0. None until it succeeded."""
    webhook: Webhook | None = None
    weights_id: str | None = None
    """Which weights compute it; see ``EngineInfo.weights_id``. None for one that was never admitted, or is older."""
    prompt_format: str | None = None
    """What made token ids of its prompt: a chat format, ``raw`` or ``tokens``."""
    prompt_digest: bytes | None = None
    """SHA-256 of its prompt's token ids; None once removed or in privacy mode."""
    notes: dict[str, Any] | None = None
    """What its door must remember whatever becomes of the text; never any of prompt or answer."""

    @property
    def texts(self) -> list[str] | None:
        """The whole text of each choice, as far as there is one."""
        return None if self.output is None else ["".join(chunks) for chunks in self.output]
