"""One request on its way through workers that may die under it.

A run remembers what was emitted, so that a new worker can go on where the old one stopped and the reader only sees a
pause. Knows nothing of sockets or processes.
"""

import asyncio
from dataclasses import replace
from typing import Self

from corral.core.errors import CorralError, EngineFailed
from corral.engines.base import EndReason, EngineRequest, TokenBatch
from corral.engines.stepper import SequenceOutput


class Run:
    """A request, what has been emitted for it, and a reader who may be slow; see ``base.EngineRun``."""

    def __init__(self, request: EngineRequest, *, kv_blocks: int) -> None:
        self.request = replace(request, emitted_ids=())
        self.kv_blocks = kv_blocks
        """Enough for prompt and whole answer."""
        self.cost_tokens = len(request.prompt_ids) + request.max_new_tokens
        """What the run counts in its flow's share of the queue."""
        self.key: int | None = None
        """Name of the sequence in the present worker; None while waiting."""
        self.arrival = 0
        """Place in the order of arrival, over all flows."""
        self.overtaken_tokens = 0
        """Cost of the runs that joined the batch before this one, out of turn, because it did not fit."""
        self.deaths = 0
        """Workers that died while they computed this run."""
        self.suspicion = 0
        """... of which since it last proved that it can be computed."""
        self.suspect = False
        """Whether it is computed alone: see ``queue.SUSPECT_DEATHS``."""
        self.emitted = list(request.emitted_ids)
        """All tokens so far, those of an earlier process included."""
        self._replayed: list[int] | None = None
        self._replayable = True
        self._unread_ids: list[int] = []
        self._unread_logprobs: list[float] = []
        self._prompt_logprobs: tuple[float, ...] | None = None
        self._echo_due = request.echo
        self._end: EndReason | None = None
        self._error: CorralError | None = None
        self._ended = False  # the reader has the end
        self._news = asyncio.Event()
        self._place = (0, False)
        self._told_place: tuple[int, bool] | None = None
        self._moved = asyncio.Event()

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self._end is not None or self._error is not None

    @property
    def unread_tokens(self) -> int:
        """Tokens that the reader has not taken yet."""
        return len(self._unread_ids)

    @property
    def position(self) -> int:
        """See ``EngineRun.position``."""
        return self._place[0]

    @property
    def recovering(self) -> bool:
        """See ``EngineRun.recovering``."""
        return self._place[1]

    async def moved(self) -> None:
        """See ``EngineRun.moved``."""
        while self._told_place in {None, self._place}:
            self._moved.clear()
            await self._moved.wait()
        self._told_place = self._place

    def place(self, position: int, *, recovering: bool = False) -> None:
        """Set ``position`` and ``recovering``, and wake who waits for a change."""
        self._place = (position, recovering)
        if self._told_place is None:
            self._told_place = self._place
        self._moved.set()

    def submission(self) -> EngineRequest:
        """What to ask of a worker now, given what earlier ones emitted.

        A greedy run goes on from prompt + tokens so far. A run with a seed, with a constraint whose place in the
        grammar is lost, or with penalties that count only the answer, would then differ from an undisturbed one: it is
        replayed from its start, since the same request gives the same tokens, and what the reader already has is
        dropped.
        """
        request = replace(self.request, echo=self._echo_due)
        if not self.emitted:
            return request
        sampling = request.sampling
        penalised = sampling.presence_penalty or sampling.frequency_penalty
        if not (sampling.greedy and not penalised and request.constraint is None) and self._replayable:
            self._replayed = []
            return request
        self._replayed = None
        return replace(
            request,
            prompt_ids=(*request.prompt_ids, *self.emitted),
            max_new_tokens=request.max_new_tokens - len(self.emitted),
            min_new_tokens=max(0, request.min_new_tokens - len(self.emitted)),
        )

    def receive(self, output: SequenceOutput) -> int | None:
        """Take one step's tokens; returns how many of them are new, not repeated by a replay.

        None: a replay went another way, and the run must be submitted anew, unless that ended it.
        """
        ids, logprobs = list(output.ids), list(output.logprobs)
        if output.prompt_logprobs is not None and self._echo_due:
            self._echo_due = False
            self._prompt_logprobs = output.prompt_logprobs[: len(self.request.prompt_ids) - 1]
        if self._replayed is not None:
            missing = len(self.emitted) - len(self._replayed)
            self._replayed += ids[:missing]
            if self._replayed != self.emitted[: len(self._replayed)]:
                self._give_up_replay()
                return None
            if len(self._replayed) == len(self.emitted):
                self._replayed = None
            ids, logprobs = ids[missing:], logprobs[missing:]
        self.emitted += ids
        self._unread_ids += ids
        self._unread_logprobs += logprobs
        self._end = output.end
        self._news.set()
        return len(ids)

    def _give_up_replay(self) -> None:
        self._replayable = False
        if self.request.constraint is not None:
            self.fail(EngineFailed("The engine was restarted, and could not repeat this constrained answer so far."))

    def fail(self, error: CorralError) -> None:
        """End with an error, after what is still unread."""
        if not self.over:
            self._error = error
            self._news.set()
            self.place(0)

    def __aiter__(self) -> Self:
        """One reader."""
        return self

    async def __anext__(self) -> TokenBatch:
        """What came since the last batch; a slow reader gets several steps in one.

        Raises:
            CorralError: what the run failed with.
        """
        while not self._ended:
            if self._unread_ids or self._prompt_logprobs is not None or self._end is not None:
                return self._take()
            if self._error is not None:
                raise self._error
            self._news.clear()
            await self._news.wait()
        raise StopAsyncIteration

    def _take(self) -> TokenBatch:
        batch = TokenBatch(
            ids=tuple(self._unread_ids),
            logprobs=tuple(self._unread_logprobs),
            end=self._end,
            prompt_logprobs=self._prompt_logprobs,
        )
        self._unread_ids, self._unread_logprobs, self._prompt_logprobs = [], [], None
        self._ended = self._end is not None
        return batch
