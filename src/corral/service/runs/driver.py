"""Computes a run: engine sequences in, events of its log out.

The driver owns the run's engine sequences; readers of the log own nothing, so they may come and go.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from corral.core.errors import Canceled, CorralError, EngineUnavailable, Overloaded, ServerStopping
from corral.core.generation import ChoiceEnded, Echo, Queued, RawPrompt, Started
from corral.core.prediction import Status, StoppedBy
from corral.engines.base import EngineRequest, EngineRun, TokenBatch
from corral.service.runs.outage import Outage
from corral.service.runs.run import ActiveRun, Outcome


class RunDriver:
    """Runs every choice of one run on its deployment's engine."""

    def __init__(self, active: ActiveRun, *, now_ms: Callable[[], int], max_outage_s: float) -> None:
        """Compute nothing before ``generate``.

        Args:
            active: the run.
            now_ms: clock, Unix time in milliseconds.
            max_outage_s: longest wait of a background run for an engine that cannot be started.
        """
        self._run = active.run
        self._log = active.log
        self._generation = active.generation
        self._opened = active.opened
        self._stop = active.stop
        self._engine = active.run.prepared.deployment.engine
        self._now_ms = now_ms
        self._max_outage_s = max_outage_s
        self._accepted_choices = 0

    async def generate(self) -> Outcome:
        """Run every choice to its end. Raises only errors that are bugs; others are in the outcome."""
        deadline_at_ms = self._run.deadline_at_ms
        timeout_s = None if deadline_at_ms is None else (deadline_at_ms - self._now_ms()) / 1000
        try:
            async with self._stop.watch(timeout_s=timeout_s):
                await self._generate_choices()
        except TimeoutError:
            return self._outcome(Status.CANCELED, self._stop.reason or StoppedBy.DEADLINE, None)
        except CorralError as error:
            return self._outcome(Status.FAILED, StoppedBy.ENGINE, error)
        endings = [answer.ending for answer in self._generation.answers if answer.ending is not None]
        return self._outcome(Status.SUCCEEDED, endings[0].stopped_by, None)

    def _outcome(self, status: Status, stopped_by: StoppedBy, error: CorralError | None) -> Outcome:
        if stopped_by is StoppedBy.RESTART:
            self._opened.refuse(ServerStopping("The server is being restarted."))
        self._opened.refuse(error or Canceled("The run was stopped before it began."))
        return Outcome(status=status, stopped_by=stopped_by, error=error)

    async def _generate_choices(self) -> None:
        unfinished = [choice for choice, answer in enumerate(self._generation.answers) if answer.ending is None]
        if self._run.prepared.max_new_tokens == 0 or len(unfinished) <= 1:
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
        outage = Outage(self._engine, prediction_id=self._run.id, limit_s=self._max_outage_s)
        while True:
            try:
                return await self._generate_on_engine(choice, outage)
            except (EngineUnavailable, Overloaded) as error:
                if not (self._run.ask.goes_on and self._opened.known):
                    raise
                await outage.wait(error)

    async def _generate_on_engine(self, choice: int, outage: Outage) -> None:
        generation, log = self._generation, self._log
        answer = generation.answers[choice]
        async with self._engine.open(self._engine_request(choice)) as sequence:
            self._count_accepted()
            if sequence.position:
                async with alongside(self._log_position(sequence)):
                    batch = await anext(sequence, None)
            else:
                self._note_admission()
                batch = await anext(sequence, None)
            while batch is not None:
                outage.over()
                if not len(log):
                    self._log_start(batch)
                generation.engine_tokens += len(batch.ids)
                log.append(answer.feed(batch))
                if answer.ending is not None:
                    log.append([ChoiceEnded(choice=choice, reason=answer.ending.reason, stop=answer.ending.stop)])
                    return
                batch = await anext(sequence, None)

    async def _log_position(self, sequence: EngineRun) -> None:
        while sequence.position:
            self._log.append([Queued(position=sequence.position, recovering=sequence.recovering)])
            await sequence.moved()
        self._note_admission()

    def _note_admission(self) -> None:
        if self._generation.admitted_at_ms is None:
            self._generation.admitted_at_ms = self._now_ms()

    def _engine_request(self, choice: int) -> EngineRequest:
        request = self._run.prepared.engine_requests[choice]
        emitted = tuple(self._generation.answers[choice].ids)
        return request if not emitted else replace(request, emitted_ids=emitted)

    def _count_accepted(self) -> None:
        self._accepted_choices += 1
        if self._accepted_choices == sum(answer.ending is None for answer in self._generation.answers):
            self._opened.accept()

    def _log_start(self, batch: TokenBatch) -> None:
        """Append ``Started``, with the prompt if its echo was requested."""
        self._note_admission()
        self._generation.started_at_ms = self._now_ms()
        echo = None
        if batch.prompt_logprobs is not None:
            echo = self._echo(batch.prompt_logprobs)
        prepared = self._run.prepared
        self._log.append([Started(prompt_tokens=len(prepared.prompt_ids), seed=prepared.seed, echo=echo)])

    def _echo(self, logprobs: Sequence[float]) -> Echo:
        prepared, prompt = self._run.prepared, self._run.ask.request.prompt
        text = prompt.text if isinstance(prompt, RawPrompt) and prepared.prompt_format == "raw" else None
        pieces = prepared.deployment.prompts.written_pieces(prepared.prompt_ids, text=text)
        whole = b"".join(pieces).decode(errors="replace") if text is None else text
        return Echo(text=whole, ids=prepared.prompt_ids, pieces=tuple(pieces), logprobs=(None, *logprobs))


@asynccontextmanager
async def alongside(work: Coroutine[None, None, None]) -> AsyncGenerator[None]:
    """Run *work* as a task while the block is active, then cancel it."""
    task = asyncio.create_task(work)  # noqa: TID251 - owned and awaited by this block
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])  # unlike awaiting it, tells its cancellation from one of this block
    if not task.cancelled():
        task.result()
