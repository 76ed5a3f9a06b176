"""A generation service that plays a script: what a door sees, and what the door did, under a test's control."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from corral.catalog.catalog import Catalog, CatalogModel
from corral.core.generation import (
    Delta,
    Finished,
    FinishReason,
    GenerationEvent,
    GenerationRequest,
    Started,
    Usage,
)

MODEL = "meta-llama/Llama-2-7b-chat-hf"
PROMPT_TOKENS = 10

Step = GenerationEvent | Exception | asyncio.Event


def catalog() -> Catalog:
    """Two names that the demo model stands in for."""
    names = (MODEL, "meta/llama-2-7b-chat")
    return Catalog(
        CatalogModel(
            id=name,
            owner=name.partition("/")[0],
            description="A model for tests.",
            context_tokens=4096,
            created=1_689_638_400,
            weights="demo",
            stands_in=True,
        )
        for name in names
    )


def answer(*texts: str, reason: FinishReason = FinishReason.STOP) -> list[Step]:
    """The script of a complete answer, one token a text and one for the end."""
    deltas = [Delta(text=text, completion_tokens=count) for count, text in enumerate(texts, 1)]
    usage = Usage(prompt_tokens=PROMPT_TOKENS, completion_tokens=len(texts) + 1)
    return [Started(prompt_tokens=PROMPT_TOKENS, seed=1), *deltas, Finished(reason=reason, usage=usage)]


class ScriptedGeneration:
    """Plays ``script`` to every caller; an exception in it is raised there, an ``asyncio.Event`` waited for."""

    def __init__(self, script: Sequence[Step] | None = None) -> None:
        self.catalog = catalog()
        self.ready = True
        self.script: Sequence[Step] = answer(" Hello", "!") if script is None else script
        self.enter_error: Exception | None = None
        self.requests: list[GenerationRequest] = []
        self.running = 0
        self.played = 0
        self.entered = asyncio.Event()
        self.left = asyncio.Event()

    @asynccontextmanager
    async def open(self, request: GenerationRequest) -> AsyncIterator[AsyncIterator[GenerationEvent]]:
        """Count who is inside."""
        self.requests.append(request)
        self.catalog.get(request.model)
        if self.enter_error is not None:
            raise self.enter_error
        self.running += 1
        self.entered.set()
        try:
            yield self._play()
        finally:
            self.running -= 1
            self.left.set()

    async def _play(self) -> AsyncIterator[GenerationEvent]:
        for step in self.script:
            match step:
                case asyncio.Event():
                    await step.wait()
                case Exception():
                    raise step
                case _:
                    self.played += 1
                    yield step
                    await asyncio.sleep(0)
