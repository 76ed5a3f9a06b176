"""A run while it runs: drives the engine for every choice, keeps the log, and can be stopped at any moment.

The run owns its engine sequences; readers own nothing. Knows no HTTP and no store.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from corral.core.errors import Canceled, CorralError, EngineUnavailable, Overloaded, ServerStopping
from corral.core.generation import ChoiceEnded, Echo, Finished, GenerationEvent, Queued, RawPrompt, Started, Usage
from corral.core.prediction import Status, StoppedBy
from corral.core.pricing import Price
from corral.engines.base import EngineRequest, EngineRun, TokenBatch
from corral.service.ports import Ask
from corral.service.runs.answer import Answer
from corral.service.runs.log import RunLog
from corral.service.runs.outage import Outage
from corral.service.runs.prepare import Prepared
from corral.text.prompt import written_pieces


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a run ended."""

    status: Status
    stopped_by: StoppedBy
    error: CorralError | None


class LiveRun:
    """One prediction in the making."""

    def __init__(
        self,
        prediction_id: str,
        ask: Ask,
        prepared: Prepared,
        price: Price,
        *,
        created_at_ms: int,
        now_ms: Callable[[], int],
        max_outage_s: float,
    ) -> None:
        self.id = prediction_id
        self.price = price
        self.created_at_ms = created_at_ms
        self.started_at_ms: int | None = None
        """The engine's first word, in Unix milliseconds; None before it, and for a run that was taken up."""
        self.admitted_at_ms: int | None = None
        """When the engine took the first choice into its batch; None as above."""
        self.deadline_at_ms = None if ask.cancel_after_s is None else created_at_ms + int(1000 * ask.cancel_after_s)
        self.ask = ask
        self.prepared = prepared
        self.log = RunLog()
        self.accepted: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        """Done once the engine has taken every choice, with None, or with the id of the prediction that the same
        request made before; fails with what it is refused with."""
        self.accepted.add_done_callback(_seen)
        self.settled = asyncio.Event()
        self.writing = asyncio.Lock()
        """Held by whoever stores progress, so that no event is stored twice."""
        self.stored_events = 0
        """Events of the log that are stored."""
        self.engine_tokens = 0
        """Tokens that the engine gave to this run; those after a stop string included."""
        self.stored_tokens = 0
        """... of which the store knows."""
        self._now_ms = now_ms
        self._max_outage_s = max_outage_s
        self._engine = prepared.deployment.engine
        self._tokenizer = prepared.deployment.tokenizer
        self._opened = 0
        self._stopping: StoppedBy | None = None
        self._scope: asyncio.Timeout | None = None
        self.answers = [
            Answer(self._tokenizer, choice=choice, stopping=ask.request.stopping, pieces=ask.request.pieces)
            for choice in range(len(prepared.engine_requests))
        ]

    @property
    def usage(self) -> Usage:
        """Tokens so far."""
        return Usage(
            prompt_tokens=len(self.prepared.prompt_ids),
            completion_tokens=sum(len(answer.ids) for answer in self.answers),
        )

    @property
    def chunks(self) -> list[list[str]] | None:
        """Of each choice, the text of each token so far that showed any; None before the engine has begun."""
        return [[text for text in answer.texts if text] for answer in self.answers] if len(self.log) else None

    @property
    def refused(self) -> bool:
        """Whether whoever asked for it was answered with an error."""
        return self.accepted.done() and self.accepted.exception() is not None

    @property
    def never_admitted(self) -> bool:
        """Whether the caller was answered with an error and the engine computed nothing."""
        return self.refused and not len(self.log)

    def take_up(self, events: Sequence[GenerationEvent], *, engine_tokens: int) -> None:
        """Begin with what an earlier process of this server had stored, which accepted it too."""
        self.accepted.set_result(None)
        self.log.append(events)
        self.stored_events = len(self.log)
        for answer in self.answers:
            answer.replay(event for event in events if not isinstance(event, Finished))
        self.engine_tokens = self.stored_tokens = engine_tokens

    def refuse(self, error: Exception) -> None:
        """Tell whoever waits for ``accepted`` that it will not be; no effect once it was."""
        if not self.accepted.done():
            self.accepted.set_exception(error)

    def stop(self, why: StoppedBy) -> None:
        """End it now, with what has been emitted; no effect on a run that is over."""
        if self._stopping is None:
            self._stopping = why
            if self._scope is not None:
                self._scope.reschedule(asyncio.get_running_loop().time())

    async def generate(self) -> Outcome:
        """Run every choice to its end. Says how it went; only an error that is a bug is raised."""
        try:
            async with asyncio.timeout(self._left_s()) as self._scope:
                if self._stopping is not None:
                    self._scope.reschedule(asyncio.get_running_loop().time())
                await self._generate_choices()
        except TimeoutError:
            return self._over(Status.CANCELED, self._stopping or StoppedBy.DEADLINE, None)
        except CorralError as error:
            return self._over(Status.FAILED, StoppedBy.ENGINE, error)
        finally:
            self._scope = None
        endings = [answer.ending for answer in self.answers if answer.ending is not None]
        return self._over(Status.SUCCEEDED, endings[0].stopped_by, None)

    def _left_s(self) -> float | None:
        return None if self.deadline_at_ms is None else (self.deadline_at_ms - self._now_ms()) / 1000

    def _over(self, status: Status, stopped_by: StoppedBy, error: CorralError | None) -> Outcome:
        if stopped_by is StoppedBy.RESTART:
            self.refuse(ServerStopping("The server is being restarted."))
        self.refuse(error or Canceled("The run was stopped before it began."))
        return Outcome(status=status, stopped_by=stopped_by, error=error)

    async def _generate_choices(self) -> None:
        unfinished = [choice for choice, answer in enumerate(self.answers) if answer.ending is None]
        if self.prepared.max_new_tokens == 0 or len(unfinished) <= 1:
            for choice in unfinished:
                await self._generate_choice(choice)
            return
        try:
            async with asyncio.TaskGroup() as tasks:
                for choice in unfinished:
                    tasks.create_task(self._generate_choice(choice))
        except ExceptionGroup as group:
            known, unknown = group.split(CorralError)
            if known is None or unknown is not None:
                raise
            raise known.exceptions[0] from group

    async def _generate_choice(self, choice: int) -> None:
        outage = Outage(self._engine, prediction_id=self.id, limit_s=self._max_outage_s)
        while True:
            try:
                return await self._generate_on_engine(choice, outage)
            except (EngineUnavailable, Overloaded) as error:
                if not (self.ask.goes_on and self.accepted.done()):
                    raise
                await outage.wait(error)

    async def _generate_on_engine(self, choice: int, outage: Outage) -> None:
        answer = self.answers[choice]
        async with self._engine.open(self._engine_request(choice)) as sequence:
            self._has_opened()
            if sequence.position:
                async with alongside(self._tell_position(sequence)):
                    batch = await anext(sequence, None)
            else:
                self._admit()
                batch = await anext(sequence, None)
            while batch is not None:
                outage.over()
                self._begin(batch)
                self.engine_tokens += len(batch.ids)
                self.log.append(answer.feed(batch))
                if answer.ending is not None:
                    self.log.append([ChoiceEnded(choice=choice, reason=answer.ending.reason, stop=answer.ending.stop)])
                    return
                batch = await anext(sequence, None)

    async def _tell_position(self, sequence: EngineRun) -> None:
        while sequence.position:
            self.log.append([Queued(position=sequence.position, recovering=sequence.recovering)])
            await sequence.moved()
        self._admit()

    def _admit(self) -> None:
        if self.admitted_at_ms is None:
            self.admitted_at_ms = self._now_ms()

    def _engine_request(self, choice: int) -> EngineRequest:
        request = self.prepared.engine_requests[choice]
        emitted = tuple(self.answers[choice].ids)
        return request if not emitted else replace(request, emitted_ids=emitted)

    def _has_opened(self) -> None:
        self._opened += 1
        if self._opened == sum(answer.ending is None for answer in self.answers) and not self.accepted.done():
            self.accepted.set_result(None)

    def _begin(self, batch: TokenBatch) -> None:
        """The engine's first word: tell that it has begun, with the prompt if that was asked for."""
        if len(self.log):
            return
        self._admit()
        self.started_at_ms = self._now_ms()
        echo = None
        if batch.prompt_logprobs is not None:
            echo = self._echo(batch.prompt_logprobs)
        started = Started(prompt_tokens=len(self.prepared.prompt_ids), seed=self.prepared.seed, echo=echo)
        self.log.append([started])

    def _echo(self, logprobs: Sequence[float]) -> Echo:
        ids, prompt = self.prepared.prompt_ids, self.ask.request.prompt
        text = prompt.text if isinstance(prompt, RawPrompt) else None
        pieces = written_pieces(ids, self._tokenizer, text=text)
        whole = b"".join(pieces).decode(errors="replace") if text is None else text
        return Echo(text=whole, ids=ids, pieces=tuple(pieces), logprobs=(None, *logprobs))


@asynccontextmanager
async def alongside(work: Coroutine[None, None, None]) -> AsyncGenerator[None]:
    """Run *work* for as long as the block lasts, and no longer."""
    task = asyncio.create_task(work)  # noqa: TID251 - owned and awaited by this block
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])  # unlike awaiting it, tells its cancellation from one of this block
    if not task.cancelled():
        task.result()


def _seen(accepted: asyncio.Future[str | None]) -> None:
    """Nobody may be waiting for it: then its error is told by the log and the store alone."""
    if not accepted.cancelled():
        accepted.exception()
