"""Everything that can go wrong, without a word about HTTP.

::

    CorralError
    ├── InvalidRequest            the caller can mend it; ``param`` names the field
    │   ├── NotFound              an account, a key or a delivery that is not there
    │   ├── PromptTooLong         both token counts are in the message
    │   └── Unsupported           asked for by name, and not offered
    ├── UnknownModel
    ├── UnknownDeployment
    ├── DeploymentInUse           not unloaded, because runs use it
    ├── UnknownPrediction
    ├── Unauthenticated
    ├── PermissionDenied          the key is good, but not for this
    ├── InsufficientCredit        credit, a spend limit or the caller's own ``max_cost`` cannot cover the worst case
    ├── IdempotencyConflict       the same idempotency key with another body
    ├── Canceled                  the run was stopped before its end
    ├── DataRemoved               the text is past its time; counts and cost stay
    ├── Overloaded                try again after ``retry_after_s``
    │   ├── ModelLoading          a load takes longer than a request may wait
    │   └── RateLimited           the account's own limit, not the server's load
    ├── StorageUnavailable        the database cannot be written or reached; try again after ``retry_after_s``
    ├── EngineUnavailable         loading, or being restarted for longer than a caller should wait
    │   ├── ServerStopping        the server was told to stop
    │   ├── InsufficientMemory    a deployment does not fit; both sizes are in the message
    │   └── LoadFailed            the model's deployment could not be loaded; the reason is for operators only
    ├── EngineFailed              the engine died on this run more often than it is retried
    ├── CheckpointRefused         weights that cannot be served; names the field or file
    └── BadSetting                a setting that is unknown or has a bad value; names it

A class is a name, a base and one sentence. Which status each becomes is decided once per door.
"""

from collections.abc import Sequence
from typing import Final

_MAX_NAME_CHARS: Final = 256
_MAX_NAMES: Final = 10
_GIB_BYTES: Final = 2**30
_MIB_BYTES: Final = 2**20


def shown_memory(size_bytes: int) -> str:
    """A size of memory for people: ``6.2 GiB``, ``340 MiB``."""
    if size_bytes < _GIB_BYTES:
        return f"{max(size_bytes, 0) / _MIB_BYTES:.0f} MiB"
    return f"{size_bytes / _GIB_BYTES:.1f} GiB"


class CorralError(Exception):
    """Base of every error that Corral raises on purpose; the message is fit to show to a caller."""


class InvalidRequest(CorralError):
    """The request breaks a rule that the caller can read about and mend."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class NotFound(InvalidRequest):
    """The account, API key or delivery that the request names does not exist, for this caller."""


class PromptTooLong(InvalidRequest):
    """The prompt leaves no room for an answer; nothing is ever truncated silently."""

    def __init__(
        self, *, prompt_tokens: int, context_tokens: int, param: str | None = None, is_estimate: bool = False
    ) -> None:
        """Word the refusal.

        Args:
            prompt_tokens: of the prompt.
            context_tokens: most that prompt and answer may have together.
            param: the field that holds the prompt.
            is_estimate: the prompt was not tokenized; from its length, it has at least *prompt_tokens*.
        """
        self.prompt_length = f"at least {prompt_tokens}" if is_estimate else str(prompt_tokens)
        super().__init__(
            f"The prompt has {self.prompt_length} tokens, but the model's context holds "
            f"{context_tokens}, and at least one must be left for the answer.",
            param=param,
        )
        self.prompt_tokens = prompt_tokens
        self.context_tokens = context_tokens


class Unsupported(InvalidRequest):
    """The request asks by name for something that is not offered."""


class UnknownModel(CorralError):
    """No model of that name is in the catalog."""

    def __init__(self, model: str, *, served: Sequence[str] | None = None) -> None:
        """*served* are the models that the caller may use; None where that is not known here."""
        super().__init__(f"Model '{model[:_MAX_NAME_CHARS]}' not found.{_served(served)}")
        self.model = model
        self.has_names = served is not None


class UnknownDeployment(CorralError):
    """There is no deployment of that name on this server."""

    def __init__(self, name: str, *, known: Sequence[str] = ()) -> None:
        names = f" There are: {', '.join(known[:_MAX_NAMES])}." if known else ""
        super().__init__(f"Deployment '{name[:_MAX_NAME_CHARS]}' not found.{names}")
        self.name = name


class DeploymentInUse(CorralError):
    """The deployment cannot be unloaded now, because runs use it."""

    def __init__(self, name: str, *, runs: int) -> None:
        super().__init__(
            f"The deployment '{name}' is used by {runs} {'run' if runs == 1 else 'runs'}. Try again when they are "
            "over, or unload it with drain, which waits for them."
        )
        self.name = name
        self.runs = runs


def _served(names: Sequence[str] | None) -> str:
    if names is None:
        return ""
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return f" Available: {', '.join(names[:_MAX_NAMES])}{more}." if names else " No model is available to this API key."


class Unauthenticated(CorralError):
    """No API key, or not a valid one."""


class UnknownPrediction(CorralError):
    """The account has no prediction of that id."""


class PermissionDenied(CorralError):
    """The key is good, but not for this: scope, model, expiry."""


class InsufficientCredit(CorralError):
    """The worst case of a run is not covered, and nothing was run."""


class IdempotencyConflict(CorralError):
    """The idempotency key was used for another request."""


class Canceled(CorralError):
    """The run was stopped before its end: by its caller, a deadline, or a restart."""


class DataRemoved(CorralError):
    """Input and output were removed when their time was up, or never stored."""


class Overloaded(CorralError):
    """Too much is waiting already; the caller may try again after ``retry_after_s``."""

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RateLimited(Overloaded):
    """The account used up its requests, tokens or places for now."""


class ModelLoading(Overloaded):
    """The model is being loaded, and that is expected to take longer than a request may wait."""


class StorageUnavailable(CorralError):
    """The database cannot be written or reached now: disk full, read-only, I/O error, connection lost."""

    retry_after_s = 5


class EngineUnavailable(CorralError):
    """The engine is still loading, or could not be started."""

    retry_after_s = 2


class ServerStopping(EngineUnavailable):
    """The server was told to stop: it takes no new run, and ends those that are open."""

    retry_after_s = 5


class InsufficientMemory(EngineUnavailable):
    """A deployment needs more memory than there is."""

    def __init__(self, name: str, *, needed_bytes: int, available_bytes: int) -> None:
        super().__init__(
            f"The deployment '{name}' needs {shown_memory(needed_bytes)} of memory to load, and "
            f"{shown_memory(available_bytes)} are available."
        )
        self.name = name
        self.needed_bytes = needed_bytes
        self.available_bytes = available_bytes


class LoadFailed(EngineUnavailable):
    """The deployment that computes for a model could not be loaded."""

    retry_after_s = 60

    def __init__(self, model: str, *, reason: str | None) -> None:
        """*reason* is why, and may name files: None for callers who are no operators."""
        because = "; its operator can see why." if reason is None else f": {reason}"
        super().__init__(f"The model '{model}' could not be loaded by this server{because}")
        self.model = model


class EngineFailed(CorralError):
    """The engine died on this run more often than a run is retried."""


class CheckpointRefused(CorralError):
    """The weights cannot be served; the message names the file or the field and its value."""


class BadSetting(CorralError):
    """A setting is unknown or has a bad value; the message names it."""
