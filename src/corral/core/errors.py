"""Exceptions of Corral. Each door maps them to HTTP statuses in its module ``refusals``.

::

    CorralError
    ├── InvalidRequest            a field is invalid; ``param`` names it
    │   ├── NotFound              the account, API key or delivery does not exist
    │   ├── PromptTooLong         the prompt leaves no room for output tokens
    │   └── Unsupported           a known option that this server does not offer
    ├── UnknownModel
    ├── UnknownDeployment
    ├── DeploymentInUse           the deployment has runs, so it was not unloaded
    ├── UnknownPrediction
    ├── Unauthenticated
    ├── PermissionDenied          the API key is valid but may not do this
    ├── InsufficientCredit        credit, a spend limit or the request's ``max_cost`` is below the worst-case cost
    ├── IdempotencyConflict       the same idempotency key with another body
    ├── Canceled                  the run was cancelled
    ├── DataRemoved               input and output were purged or never stored
    ├── Overloaded                the queue is full; retry after ``retry_after_s``
    │   ├── ModelLoading          a load takes longer than a request may wait
    │   └── RateLimited           a limit of the account is reached
    ├── StorageUnavailable        the database cannot be written or reached; retry after ``retry_after_s``
    ├── EngineUnavailable         the engine is loading or restarting, or could not be started
    │   ├── ServerStopping        the server is shutting down
    │   ├── InsufficientMemory    a deployment needs more memory than is available
    │   └── LoadFailed            the model's deployment could not be loaded; the reason is for operators only
    ├── EngineFailed              the worker died during this run more often than a run is retried
    ├── CheckpointRefused         the weights cannot be served; the message names the field or file
    └── BadSetting                a setting is unknown or invalid; the message names it
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
    """Base class of Corral's exceptions. The message may be shown to callers."""


class InvalidRequest(CorralError):
    """The request is invalid; ``param`` names the field."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class NotFound(InvalidRequest):
    """The account, API key or delivery does not exist, or the caller may not see it."""


class PromptTooLong(InvalidRequest):
    """The prompt leaves no room in the context for output tokens. Prompts are never truncated."""

    def __init__(
        self, *, prompt_tokens: int, context_tokens: int, param: str | None = None, is_estimate: bool = False
    ) -> None:
        """Create the error with both token counts in its message.

        Args:
            prompt_tokens: length of the prompt.
            context_tokens: context length of the model: most prompt and output tokens together.
            param: name of the field with the prompt.
            is_estimate: the prompt was not tokenized; *prompt_tokens* is a lower bound from its length.
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
    """The request uses a known option or value that this server does not offer."""


class UnknownModel(CorralError):
    """No model with this name is served."""

    def __init__(self, model: str, *, served: Sequence[str] | None = None) -> None:
        """*served* lists the models that the caller may use; None if unknown where the error is raised."""
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
    """The request has no API key, or an invalid one."""


class UnknownPrediction(CorralError):
    """The account has no prediction with this id."""


class PermissionDenied(CorralError):
    """The API key is valid but lacks the scope or may not use the model."""


class InsufficientCredit(CorralError):
    """Credit or a spend limit does not cover the run's worst-case cost. Nothing was run."""


class IdempotencyConflict(CorralError):
    """The idempotency key was already used with a different request."""


class Canceled(CorralError):
    """The run was cancelled: by its caller, a deadline or a restart."""


class DataRemoved(CorralError):
    """Input and output were purged after their retention time, or never stored."""


class Overloaded(CorralError):
    """Too many runs are queued; retry after ``retry_after_s``."""

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RateLimited(Overloaded):
    """The account's limit of requests, tokens or concurrent runs is reached."""


class ModelLoading(Overloaded):
    """The model is being loaded, and that is expected to take longer than a request may wait."""


class StorageUnavailable(CorralError):
    """The database cannot be written or reached now: disk full, read-only, I/O error, connection lost."""

    retry_after_s = 5


class EngineUnavailable(CorralError):
    """The engine is still loading, or could not be started."""

    retry_after_s = 2


class ServerStopping(EngineUnavailable):
    """The server is shutting down: it accepts no new run and ends the current ones."""

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
    """The engine's worker died during this run more often than a run is retried."""


class CheckpointRefused(CorralError):
    """The weights cannot be served; the message names the file or the field and its value."""


class BadSetting(CorralError):
    """A setting is unknown or has an invalid value; the message names it."""
