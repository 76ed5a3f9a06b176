"""The path of every answer: prepare, admit, engine, text.

Doors hand in a ``GenerationRequest`` and read events; nobody else talks to the engine. Knows no HTTP.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, Protocol

from corral.catalog.catalog import Catalog
from corral.core.errors import CorralError, InvalidRequest, PromptTooLong
from corral.core.generation import (
    ChatPrompt,
    Delta,
    Finished,
    FinishReason,
    GenerationEvent,
    GenerationRequest,
    Prompt,
    RawPrompt,
    Started,
    Usage,
)
from corral.engines.base import EndReason, Engine, EngineInfo, EngineRequest, TokenBatch, check_sampling
from corral.text.decode import IncrementalDecoder
from corral.text.prompt import chat_ids, raw_ids
from corral.text.stop import StopFilter
from corral.text.tokenizer import Tokenizer

_LONG_PROMPT_CHARS: Final = 20_000
"""From here on a prompt is encoded in a thread: encoding one this long takes milliseconds that other callers wait."""


class Generation(Protocol):
    """What a door may ask for."""

    @property
    def catalog(self) -> Catalog:
        """The served models."""
        ...

    @property
    def ready(self) -> bool:
        """Whether the next request would be answered."""
        ...

    def open(self, request: GenerationRequest) -> AbstractAsyncContextManager[AsyncIterator[GenerationEvent]]:
        """Run one request; leave the block to free the engine.

        Every error that a caller can mend is raised on entering, before the first event.

        Raises:
            UnknownModel, InvalidRequest, PromptTooLong, Overloaded, EngineUnavailable: on entering.
            EngineFailed, EngineUnavailable: while iterating.
        """
        ...


class GenerationService:
    """Generation on one engine; see Generation."""

    def __init__(self, *, catalog: Catalog, engine: Engine, tokenizer: Tokenizer, draw_seed: Callable[[], int]) -> None:
        self._catalog = catalog
        self._engine = engine
        self._tokenizer = tokenizer
        self._draw_seed = draw_seed

    @property
    def catalog(self) -> Catalog:
        """The served models."""
        return self._catalog

    @property
    def ready(self) -> bool:
        """Whether the next request would be answered at once: a model is loaded and its worker alive."""
        try:
            self._engine.info  # noqa: B018 - raises while there is none
        except CorralError:
            return False
        return self._engine.stats().worker_pid is not None

    @asynccontextmanager
    async def open(self, request: GenerationRequest) -> AsyncGenerator[AsyncIterator[GenerationEvent]]:
        """Run one request; see ``Generation.open``."""
        self._catalog.get(request.model)
        stops = StopFilter(request.stopping.stop)
        prepared = await self._prepare(request)
        async with self._engine.open(prepared) as batches:
            yield self._events(prepared, batches, stops)

    async def _prepare(self, request: GenerationRequest) -> EngineRequest:
        """Close every open question: token ids, limits, seed."""
        check_sampling(request.sampling)
        info = self._engine.info
        prompt_ids = await self._prompt_ids(request.prompt)
        room_tokens = _context_tokens(info) - len(prompt_ids)
        if room_tokens < 1:
            raise PromptTooLong(prompt_tokens=len(prompt_ids), context_tokens=_context_tokens(info), param="messages")
        stopping = request.stopping
        max_new_tokens = room_tokens if stopping.max_tokens is None else min(stopping.max_tokens, room_tokens)
        if max_new_tokens < 1:
            raise InvalidRequest("max_tokens must be at least 1.", param="max_tokens")
        return EngineRequest(
            prompt_ids=tuple(prompt_ids),
            max_new_tokens=max_new_tokens,
            min_new_tokens=max(0, min(stopping.min_tokens, max_new_tokens)),
            seed=(self._draw_seed() if request.seed is None else request.seed) % 2**64,
            sampling=request.sampling,
        )

    async def _prompt_ids(self, prompt: Prompt) -> list[int]:
        match prompt:
            case ChatPrompt(messages=messages):
                if sum(len(message.content) for message in messages) < _LONG_PROMPT_CHARS:
                    return chat_ids(messages, self._tokenizer)
                return await asyncio.to_thread(chat_ids, messages, self._tokenizer)
            case RawPrompt(text=text):
                if len(text) < _LONG_PROMPT_CHARS:
                    return raw_ids(text, self._tokenizer)
                return await asyncio.to_thread(raw_ids, text, self._tokenizer)

    async def _events(
        self, request: EngineRequest, batches: AsyncIterator[TokenBatch], stops: StopFilter
    ) -> AsyncIterator[GenerationEvent]:
        prompt_tokens, completion_tokens = len(request.prompt_ids), 0
        decoder = IncrementalDecoder(self._tokenizer)
        yield Started(prompt_tokens=prompt_tokens, seed=request.seed)
        async for batch in batches:
            text, matched = "", None
            for token_id in batch.ids:  # one by one: what comes after a stop string is neither shown nor counted
                completion_tokens += 1
                shown = stops.feed(decoder.feed((token_id,)))
                text, matched = text + shown.text, shown.matched
                if matched is not None:
                    break
            if batch.end is not None and matched is None:
                last = stops.feed(decoder.flush())
                text, matched = text + last.text + stops.flush(), last.matched
            if text:
                yield Delta(text=text, completion_tokens=completion_tokens)
            if batch.end is not None or matched is not None:
                cut = batch.end is EndReason.LENGTH and matched is None
                yield Finished(
                    reason=FinishReason.LENGTH if cut else FinishReason.STOP,
                    usage=Usage(prompt_tokens=prompt_tokens, completion_tokens=completion_tokens),
                )
                return


def _context_tokens(info: EngineInfo) -> int:
    """Tokens that prompt and answer may have together."""
    return min(info.context_tokens, info.kv_blocks * info.kv_block_tokens)
