"""A run of this process and its parts. Each part has one writer, named in its docstring."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from corral.core.errors import CorralError
from corral.core.generation import Finished, GenerationEvent, Usage
from corral.core.prediction import Status, StoppedBy
from corral.core.pricing import Price
from corral.service.ports import Ask
from corral.service.runs.answer import Answer
from corral.service.runs.log import RunLog
from corral.service.runs.prepare import Prepared


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Final status of a run, with its error and who stopped it."""

    status: Status
    stopped_by: StoppedBy
    error: CorralError | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Values of a run that are fixed when it starts."""

    id: str
    """The prediction's."""
    ask: Ask
    prepared: Prepared
    price: Price
    created_at_ms: int

    @property
    def account_id(self) -> str:
        """Account that is billed."""
        return self.ask.caller.account_id

    @property
    def deadline_at_ms(self) -> int | None:
        """Unix milliseconds after which the run is stopped; None for no limit."""
        after_s = self.ask.cancel_after_s
        return None if after_s is None else self.created_at_ms + int(1000 * after_s)


class OpenResult:
    """Result of opening a run, awaited by the request that opened it. Only the first result counts."""

    def __init__(self) -> None:
        self._result: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._result.add_done_callback(_mark_retrieved)

    @property
    def known(self) -> bool:
        """Whether there is a result."""
        return self._result.done()

    @property
    def refused(self) -> bool:
        """Whether the caller was answered with an error."""
        return self._result.done() and self._result.exception() is not None

    async def wait(self) -> str | None:
        """Return None once the engine has accepted every choice, or the id of the prediction to read instead.

        The latter was created by an earlier request with the same idempotency key.

        Raises:
            CorralError: the run was refused.
        """
        return await asyncio.shield(self._result)

    def accept(self) -> None:
        """The engine has accepted every choice."""
        if not self._result.done():
            self._result.set_result(None)

    def attach(self, prediction_id: str) -> None:
        """An earlier request with the same idempotency key created that prediction."""
        if not self._result.done():
            self._result.set_result(prediction_id)

    def refuse(self, error: Exception) -> None:
        """Answer the caller with *error*."""
        if not self._result.done():
            self._result.set_exception(error)


def _mark_retrieved(result: asyncio.Future[str | None]) -> None:
    """Avoid asyncio's warning where no request waits any more; the log and the store have the error too."""
    if not result.cancelled():
        result.exception()


class StopSignal:
    """Stops a run from outside: cancels the block that computes it. Only the first reason counts."""

    def __init__(self) -> None:
        self._reason: StoppedBy | None = None
        self._scope: asyncio.Timeout | None = None

    @property
    def reason(self) -> StoppedBy | None:
        """Why the run is to stop; None while it is not."""
        return self._reason

    def set(self, reason: StoppedBy) -> None:
        """Stop the run now, with the tokens it has emitted. No effect once it has ended."""
        if self._reason is None:
            self._reason = reason
            if self._scope is not None:
                self._scope.reschedule(asyncio.get_running_loop().time())

    @asynccontextmanager
    async def watch(self, *, timeout_s: float | None) -> AsyncGenerator[None]:
        """Leave the block with TimeoutError when the signal is set, or after *timeout_s*."""
        try:
            async with asyncio.timeout(timeout_s) as self._scope:
                if self._reason is not None:
                    self._scope.reschedule(asyncio.get_running_loop().time())
                yield
        finally:
            self._scope = None


class Generation:
    """Output of a run so far. Written by the run's ``RunDriver`` only."""

    def __init__(self, run: Run) -> None:
        tokenizer, request = run.prepared.deployment.tokenizer, run.ask.request
        self.answers = [
            Answer(tokenizer, choice=choice, stopping=request.stopping, pieces=request.pieces)
            for choice in range(len(run.prepared.engine_requests))
        ]
        self.engine_tokens = 0
        """Tokens received from the engine, including those after a stop string."""
        self.started_at_ms: int | None = None
        """When the first token came, in Unix milliseconds; None before it, and for a resumed run."""
        self.admitted_at_ms: int | None = None
        """When the engine took the first choice into its batch; None as above."""

    @classmethod
    def resumed(cls, run: Run, events: Iterable[GenerationEvent], *, engine_tokens: int) -> "Generation":
        """Restore the output of a run from its stored events, so that it is continued after them."""
        generation = cls(run)
        kept = [event for event in events if not isinstance(event, Finished)]
        for answer in generation.answers:
            answer.replay(kept)
        generation.engine_tokens = engine_tokens
        return generation

    @property
    def completion_tokens(self) -> int:
        """Tokens that are billed, all choices together."""
        return sum(len(answer.ids) for answer in self.answers)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveRun:
    """A run of this process, from before its claim until after its settlement."""

    run: Run
    log: RunLog
    """Appended to by the ``RunDriver``; closed by the ``PredictionRunner``."""
    generation: Generation
    opened: OpenResult = field(default_factory=OpenResult)
    stop: StopSignal = field(default_factory=StopSignal)
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by ``ActiveRuns`` when the run is removed from it."""

    @classmethod
    def new(cls, run: Run) -> "ActiveRun":
        """A run without output."""
        return cls(run=run, log=RunLog(), generation=Generation(run))

    @classmethod
    def resumed(cls, run: Run, events: Sequence[GenerationEvent], *, engine_tokens: int) -> "ActiveRun":
        """A run that an earlier process accepted, with what that process stored of it."""
        generation = Generation.resumed(run, events, engine_tokens=engine_tokens)
        active = cls(run=run, log=RunLog(), generation=generation)
        active.log.append(events)
        active.opened.accept()
        return active

    @property
    def id(self) -> str:
        """The prediction's."""
        return self.run.id

    @property
    def has_output(self) -> bool:
        """Whether the engine has begun to emit tokens."""
        return len(self.log) > 0

    @property
    def usage(self) -> Usage:
        """Tokens so far."""
        return Usage(
            prompt_tokens=len(self.run.prepared.prompt_ids), completion_tokens=self.generation.completion_tokens
        )

    @property
    def chunks(self) -> list[list[str]] | None:
        """Visible text of each choice, token by token without empty ones; None before the first token."""
        if not self.has_output:
            return None
        return [[text for text in answer.texts if text] for answer in self.generation.answers]

    @property
    def never_admitted(self) -> bool:
        """Whether the caller was answered with an error and the engine computed nothing."""
        return self.opened.refused and not self.has_output
