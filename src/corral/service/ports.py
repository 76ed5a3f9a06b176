"""Interface of the prediction service for doors and pages, with the values that they exchange."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from corral.catalog.catalog import Catalog
from corral.catalog.model import CatalogModel
from corral.core.caller import Caller
from corral.core.generation import GenerationEvent, GenerationRequest
from corral.core.prediction import Prediction, Status, Webhook
from corral.core.pricing import Price
from corral.core.server_state import ServerStatus
from corral.deployments.status import DeploymentStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Idempotency:
    """An idempotency key: a repeated request with it gets the prediction of the first."""

    key: str
    """1 to 255 visible characters."""
    body_digest: bytes
    """SHA-256 of route and body: the same key with another body is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A request for a prediction, in the service's terms."""

    caller: Caller
    door: str
    request: GenerationRequest
    background: bool = False
    """Continues without a reader, and after a restart of the server. So does a request with ``idempotency``."""
    idempotency: Idempotency | None = None
    max_cost_nusd: int | None = None
    """The caller's limit on the most it can cost; a request above it is refused."""
    shown_input: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The input as the caller gave it, shown on the prediction."""
    cancel_after_s: float | None = None
    """Deadline, counted from creation; None for no deadline."""
    webhook: Webhook | None = None
    notes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Data of the door that is kept even when the text is removed. Must not hold any of prompt or answer."""

    @property
    def goes_on(self) -> bool:
        """Whether the run continues when no client reads it."""
        return self.background or self.idempotency is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Price of a request: what it costs at least and at most."""

    price: Price
    prompt_tokens: int
    max_completion_tokens: int
    """All choices together."""
    prompt_nusd: int
    """Cost of the prompt, due as soon as the request runs."""
    worst_case_nusd: int
    """Most it can cost: the amount that is held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRequest:
    """Filters of a list of predictions."""

    before: str | None = None
    """Cursor: only predictions older than the one of this id."""
    door: str | None = None
    model: str | None = None
    """Its id in the catalog."""
    statuses: tuple[Status, ...] = ()
    """As stored; empty for all."""
    created_from_ms: int | None = None
    created_before_ms: int | None = None
    limit: int = 100
    """Most predictions to return."""


NEWEST: Final = PageRequest()


class PredictionEvents(Protocol):
    """The events of a prediction that is running or has ended."""

    @property
    def id(self) -> str:
        """The prediction's."""
        ...

    @property
    def created_at_ms(self) -> int:
        """Unix milliseconds."""
        ...

    @property
    def price(self) -> Price:
        """Price of its tokens."""
        ...

    @property
    def attached(self) -> bool:
        """Whether the idempotency key was used before, so that this is the earlier prediction."""
        ...

    def events(self, *, after: int = 0) -> AsyncIterator[tuple[int, GenerationEvent]]:
        """Yield events numbered above *after*: past ones, then new ones as they come.

        A slow reader may get several deltas of one choice as one, with the number of the last.

        Raises:
            Canceled, EngineFailed, EngineUnavailable: after the last event, if the run did not succeed.
            DataRemoved: the text was deleted at the end of its retention time.
        """
        ...

    def digest(self, number: int) -> str | None:
        """Digest of the token ids of all choices up to event *number*, 8 hex digits; None if there is no such event.

        It depends on the ids only, so it is the same live, from the store, and recomputed after a crash.
        """
        ...


class Predictions(Protocol):
    """Use cases of predictions, for every door."""

    @property
    def catalog(self) -> Catalog:
        """The served models."""
        ...

    @property
    def status(self) -> ServerStatus:
        """State of the server, for ``/health`` and pages."""
        ...

    def deployments(self) -> tuple[DeploymentStatus, ...]:
        """Snapshot of each deployment, in the order of the settings; reasons of failed loads are for operators only."""
        ...

    def deployment_of(self, model: CatalogModel) -> DeploymentStatus:
        """Snapshot of the deployment that computes for *model*."""
        ...

    @property
    def ready(self) -> bool:
        """Whether the next request would be answered at once."""
        ...

    def open(self, ask: Ask) -> AbstractAsyncContextManager[PredictionEvents]:
        """Hold the most it can cost, start the run, and read it. Leaving early cancels it, unless ``goes_on``.

        Errors that the caller can fix are raised on entering, before any engine work.

        Raises:
            UnknownModel, InvalidRequest, PermissionDenied, InsufficientCredit, IdempotencyConflict, RateLimited,
            Overloaded, EngineUnavailable: on entering; nothing was run or held.
        """
        ...

    async def estimate(self, ask: Ask) -> Estimate:
        """Price a request without running it. Raises as ``open`` does for an invalid request."""
        ...

    async def get(self, caller: Caller, prediction_id: str) -> Prediction:
        """Get one of the account's predictions, with its output so far.

        Raises:
            UnknownPrediction: the account has none of that id.
        """
        ...

    async def cancel(self, caller: Caller, prediction_id: str) -> Prediction:
        """Stop a prediction if it is running; returns it settled. One that has ended is returned unchanged.

        Raises:
            UnknownPrediction: the account has none of that id.
        """
        ...

    async def attach(self, caller: Caller, prediction_id: str) -> PredictionEvents:
        """Read the events of one of the account's predictions, live or from the stored log.

        Raises:
            UnknownPrediction: the account has none of that id.
        """
        ...

    async def page(self, caller: Caller, wanted: PageRequest = NEWEST) -> list[Prediction]:
        """List the account's predictions, newest first, with their output so far; at most 100.

        Raises:
            UnknownPrediction: the account has no prediction ``wanted.before``.
        """
        ...

    async def fail(self, ask: Ask, reason: str) -> Prediction:
        """Create a failed prediction without running anything, for doors that report refusals as predictions.

        It costs nothing. A request with an idempotency key that was used before gets the earlier prediction.

        Raises:
            UnknownModel, PermissionDenied, IdempotencyConflict, RateLimited: nothing was written.
        """
        ...

    async def wait(self, caller: Caller, prediction_id: str, *, timeout_s: float) -> Prediction:
        """Get one of the account's predictions when it has ended, or after *timeout_s*.

        Raises:
            UnknownPrediction: the account has none of that id.
        """
        ...

    async def find(self, prediction_id: str) -> Prediction:
        """Get any account's prediction. No ownership check: for signed URLs and webhook delivery.

        Raises:
            UnknownPrediction: there is none of that id.
        """
        ...

    async def replay(self, prediction_id: str) -> PredictionEvents:
        """Read the events of any account's prediction. No ownership check: for signed URLs.

        Raises:
            UnknownPrediction: there is none of that id.
        """
        ...

    async def run_counts(self) -> Mapping[str, int]:
        """Count ended predictions by model id; cached for a few seconds."""
        ...
