"""One request on its way through workers that may die under it.

A run remembers what was emitted, so that a new worker can go on where the old one stopped and the reader only sees a
pause. Knows nothing of sockets or processes.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

from corral.core.errors import CorralError
from corral.engines.base import EndReason, EngineRequest, TokenBatch
from corral.engines.stepper import SequenceOutput


class Run:
    """A request, what has been emitted for it, and a reader who may be slow."""

    def __init__(self, request: EngineRequest, *, kv_blocks: int) -> None:
        self.request = request
        self.kv_blocks = kv_blocks
        """Enough for prompt and whole answer."""
        self.key: int | None = None
        """Name of the sequence in the present worker; None while waiting."""
        self.deaths = 0
        """Workers that died while they computed this run."""
        self._emitted: list[int] = []
        self._replayed: list[int] | None = None
        self._replayable = True
        self._unread_ids: list[int] = []
        self._unread_logprobs: list[float] = []
        self._end: EndReason | None = None
        self._error: CorralError | None = None
        self._news = asyncio.Event()

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self._end is not None or self._error is not None

    def submission(self) -> EngineRequest:
        """What to ask of a worker now, given what earlier ones emitted.

        A greedy run goes on from prompt + tokens so far. A run with a seed, or with penalties that count only the
        answer, would then differ from an undisturbed one: it is replayed from its start, since the same request gives
        the same tokens, and what the reader already has is dropped.
        """
        emitted = len(self._emitted)
        if emitted == 0:
            return self.request
        sampling = self.request.sampling
        exact = sampling.greedy and not sampling.presence_penalty and not sampling.frequency_penalty
        if not exact and self._replayable:
            self._replayed = []
            return self.request
        self._replayed = None
        return replace(
            self.request,
            prompt_ids=(*self.request.prompt_ids, *self._emitted),
            max_new_tokens=self.request.max_new_tokens - emitted,
            min_new_tokens=max(0, self.request.min_new_tokens - emitted),
        )

    def receive(self, output: SequenceOutput) -> bool:
        """Take one step's tokens. False: a replay went another way, and the run must be submitted anew."""
        ids, logprobs = list(output.ids), list(output.logprobs)
        if self._replayed is not None:
            missing = len(self._emitted) - len(self._replayed)
            self._replayed += ids[:missing]
            if self._replayed != self._emitted[: len(self._replayed)]:
                self._replayable = False
                return False
            if len(self._replayed) == len(self._emitted):
                self._replayed = None
            ids, logprobs = ids[missing:], logprobs[missing:]
        self._emitted += ids
        self._unread_ids += ids
        self._unread_logprobs += logprobs
        self._end = output.end
        if ids or output.end:
            self._news.set()
        return True

    def fail(self, error: CorralError) -> None:
        """End with an error, after what is still unread."""
        if not self.over:
            self._error = error
            self._news.set()

    async def batches(self) -> AsyncIterator[TokenBatch]:
        """What comes, as it comes; a slow reader gets several steps in one batch.

        Raises:
            CorralError: what the run failed with.
        """
        while True:
            await self._news.wait()
            self._news.clear()
            ids, self._unread_ids = self._unread_ids, []
            logprobs, self._unread_logprobs = self._unread_logprobs, []
            end = self._end
            if ids or end is not None:
                yield TokenBatch(ids=tuple(ids), logprobs=tuple(logprobs), end=end)
            if end is not None:
                return
            if self._error is not None:
                raise self._error
