"""What doors may ask of the service, without how it is done."""

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
    """A caller's promise that requests with one key are one request."""

    key: str
    """1 to 255 visible characters."""
    body_digest: bytes
    """SHA-256 of route and body: another body under the same key is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One call through a door."""

    caller: Caller
    door: str
    request: GenerationRequest
    background: bool = False
    """Goes on when nobody reads, and after a restart of the server. A call with ``idempotency`` does so too."""
    idempotency: Idempotency | None = None
    max_cost_nusd: int | None = None
    """The caller's own cap on the worst case."""
    shown_input: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The input as the caller gave it, to be shown on the prediction."""
    cancel_after_s: float | None = None
    """The run is stopped when it is so old."""
    webhook: Webhook | None = None
    notes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What the door must remember whatever becomes of the text; never any of prompt or answer."""

    @property
    def goes_on(self) -> bool:
        """Whether it runs to its end when nobody reads."""
        return self.background or self.idempotency is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a request would cost at most."""

    price: Price
    prompt_tokens: int
    max_completion_tokens: int
    """All choices together."""
    prompt_nusd: int
    """Certain once it runs."""
    worst_case_nusd: int
    """What would be held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRequest:
    """Which predictions to list."""

    before: str | None = None
    """Only those older than the one of this id."""
    door: str | None = None
    model: str | None = None
    """Its id in the catalog."""
    statuses: tuple[Status, ...] = ()
    """As stored; none named is all."""
    created_from_ms: int | None = None
    created_before_ms: int | None = None
    limit: int = 100
    """At most so many."""


NEWEST: Final = PageRequest()


class Run(Protocol):
    """A prediction to read, running or over."""

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
        """What its tokens cost."""
        ...

    @property
    def attached(self) -> bool:
        """Whether the idempotency key led to a prediction that existed already."""
        ...

    def events(self, *, after: int = 0) -> AsyncIterator[tuple[int, GenerationEvent]]:
        """Every event with its number, from the one after *after* on: what has been, then what comes.

        A slow reader may get several deltas of one choice as one; its number is the last one's.

        Raises:
            Canceled, EngineFailed, EngineUnavailable: how the run ended, after its last event.
            DataRemoved: the text is past its time.
        """
        ...

    def digest(self, number: int) -> str | None:
        """Digest of the token ids of all choices up to event *number*, 8 hex digits; None while there is no such event.

        Equal for equal ids: live, joined, from the store, and computed again after a crash.
        """
        ...


class Predictions(Protocol):
    """The use cases behind every door."""

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
        """Whether the next request would be answered."""
        ...

    def open(self, ask: Ask) -> AbstractAsyncContextManager[Run]:
        """Hold the worst case, start the run, and read it. Leaving before its end cancels it, unless it is to go on.

        Every error that a caller can mend is raised on entering, before any engine work.

        Raises:
            UnknownModel, InvalidRequest, PermissionDenied, InsufficientCredit, IdempotencyConflict, RateLimited,
            Overloaded, EngineUnavailable: on entering; nothing was run or held.
        """
        ...

    async def estimate(self, ask: Ask) -> Estimate:
        """Price a request without running it. Raises what ``open`` raises of the request itself."""
        ...

    async def get(self, caller: Caller, prediction_id: str) -> Prediction:
        """One of the account's predictions as it stands now, output so far included.

        Raises:
            UnknownPrediction: the account has none of that id.
        """
        ...

    async def cancel(self, caller: Caller, prediction_id: str) -> Prediction:
        """Stop it if it runs, and return it settled; a finished one is returned unchanged.

        Raises:
            UnknownPrediction: the account has none of that id.
        """
        ...

    async def attach(self, caller: Caller, prediction_id: str) -> Run:
        """Read a prediction again: live, or from the log.

        Raises:
            UnknownPrediction: the account has none of that id.
        """
        ...

    async def page(self, caller: Caller, wanted: PageRequest = NEWEST) -> list[Prediction]:
        """The account's predictions, newest first, output so far included; at most 100.

        Raises:
            UnknownPrediction: the account has no prediction ``wanted.before``.
        """
        ...

    async def fail(self, ask: Ask, reason: str) -> Prediction:
        """A prediction that has failed before anything was run, for doors whose callers look for refusals there.

        It costs nothing. A call with an idempotency key that was used before gets that prediction.

        Raises:
            UnknownModel, PermissionDenied, IdempotencyConflict, RateLimited: and nothing was written.
        """
        ...

    async def wait(self, caller: Caller, prediction_id: str, *, timeout_s: float) -> Prediction:
        """One of the account's predictions at its end, or as it stands after *timeout_s*.

        Raises:
            UnknownPrediction: the account has none of that id.
        """
        ...

    async def find(self, prediction_id: str) -> Prediction:
        """As ``get``, whosever it is: for whoever holds a capability for it, and for deliveries.

        Raises:
            UnknownPrediction: there is none of that id.
        """
        ...

    async def replay(self, prediction_id: str) -> Run:
        """As ``attach``, whosever it is: for whoever holds a capability for it.

        Raises:
            UnknownPrediction: there is none of that id.
        """
        ...

    async def run_counts(self) -> Mapping[str, int]:
        """How many predictions each model has ended, by its id in the catalog; a few seconds old at most."""
        ...
