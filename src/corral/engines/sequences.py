"""One request in an engine's queue and on its workers.

It keeps the tokens so far, so that another worker can go on where one died and the reader only sees a pause.
"""

import asyncio
from dataclasses import replace
from typing import Self

from corral.core.errors import CorralError, EngineFailed
from corral.engines.base import EndReason, EngineRequest, TokenBatch
from corral.engines.stepper import SequenceOutput


class QueuedSequence:
    """A request, its tokens so far, and a buffer for a slow reader; implements ``base.EngineRun``."""

    def __init__(self, request: EngineRequest, *, can_replay: bool = True) -> None:
        """Wait for a worker.

        Args:
            request: to be computed.
            can_replay: a worker gives the same tokens again for the same sampled request.
        """
        self.request = replace(request, emitted_ids=())
        self.cost_tokens = len(request.prompt_ids) + request.max_new_tokens
        """Tokens of prompt and whole answer: its size in a batch, and its cost for its flow's share of the queue."""
        self.key: int | None = None
        """Key in the batch of its worker; None while waiting."""
        self.arrival = 0
        """Place in the order of arrival, over all flows."""
        self.overtaken_tokens = 0
        """Cost of the sequences that were submitted before this one, out of turn, because it did not fit."""
        self.deaths = 0
        """Workers that died while they computed it."""
        self.suspicion = 0
        """Deaths since it last proved that it can be computed."""
        self.is_suspect = False
        """Whether it is computed alone: see ``admission.SUSPECT_DEATHS``."""
        self.emitted = list(request.emitted_ids)
        """All tokens so far, those of an earlier process included."""
        self.continued = False
        """See ``EngineRun.continued``."""
        self.reads_prompt = False
        """Whether a worker has the sequence and has not answered yet: it computes the prompt."""
        self.evictions = 0
        """Times it was taken off a worker for a sequence of normal priority."""
        self._replayed: list[int] | None = None
        self._can_replay = can_replay
        self._prefixes: tuple[int, ...] | None = None
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
    def is_over(self) -> bool:
        """Whether nothing more will come."""
        return self._end is not None or self._error is not None

    @property
    def can_make_way(self) -> bool:
        """Whether it may be taken off its worker for a sequence of normal priority, to go on later."""
        can_go_on = self._can_replay or not self.emitted or self.request.constraint is None
        return self.request.low_priority and not self.is_suspect and can_go_on

    @property
    def known_tokens(self) -> int:
        """Tokens that a worker reads before it gives a new one: the prompt and what was emitted before."""
        return len(self.request.prompt_ids) + len(self.emitted)

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

    def prefixes(self, piece_tokens: int) -> tuple[int, ...]:
        """Hashes of the prompt's first one, two, ... pieces; a rest shorter than a piece is left out."""
        if self._prefixes is None:
            ids, hashes = self.request.prompt_ids, [0]
            for start in range(0, len(ids) - piece_tokens + 1, piece_tokens):
                hashes.append(hash((hashes[-1], ids[start : start + piece_tokens])))
            self._prefixes = tuple(hashes[1:])
        return self._prefixes

    def check_resumable(self) -> None:
        """Fail a constrained answer that has begun and cannot be replayed: its place in the grammar is lost."""
        if self.emitted and self.request.constraint is not None and not self._can_replay:
            self.fail(EngineFailed("The engine was restarted, and could not repeat this constrained answer so far."))

    def submission(self) -> EngineRequest:
        """Make the request for a worker, given the tokens so far.

        A greedy sequence goes on from prompt + tokens so far. One with a seed, with a constraint whose place in the
        grammar is lost, or with penalties that count only the answer, would then differ from an undisturbed one: it is
        replayed from its start if the engine gives the same tokens again, and those that the reader has are dropped.
        """
        request = replace(self.request, echo=self._echo_due)
        self.reads_prompt = True
        if not self.emitted:
            return request
        sampling = request.sampling
        is_penalised = sampling.presence_penalty or sampling.frequency_penalty
        if not sampling.greedy or is_penalised or request.constraint is not None:
            if self._can_replay:
                self._replayed = []
                return request
            self.continued = True
        self._replayed = None
        return replace(
            request,
            prompt_ids=(*request.prompt_ids, *self.emitted),
            max_new_tokens=request.max_new_tokens - len(self.emitted),
            min_new_tokens=max(0, request.min_new_tokens - len(self.emitted)),
        )

    def receive(self, output: SequenceOutput) -> int | None:
        """Take one step's tokens; returns how many of them are new, not repeated by a replay.

        None: a replay gave other tokens; the sequence must be submitted anew, unless it is over.
        """
        ids, logprobs = list(output.ids), list(output.logprobs)
        self.reads_prompt = False
        if output.prompt_logprobs is not None and self._echo_due:
            self._echo_due = False
            self._prompt_logprobs = output.prompt_logprobs[: len(self.request.prompt_ids) - 1]
        if self._replayed is not None:
            missing = len(self.emitted) - len(self._replayed)
            self._replayed += ids[:missing]
            if self._replayed != self.emitted[: len(self._replayed)]:
                self._can_replay = False
                self.check_resumable()
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

    def fail(self, error: CorralError) -> None:
        """End with an error, after what is still unread."""
        if not self.is_over:
            self._error = error
            self._news.set()
            self.place(0)

    def __aiter__(self) -> Self:
        """Return itself: there is one reader."""
        return self

    async def __anext__(self) -> TokenBatch:
        """Wait for new tokens; a slow reader gets those of several steps in one batch.

        Raises:
            CorralError: the sequence failed.
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
