"""Constraints are tried on an engine that may die of them, before the one that serves sees them.

A constraint that does not compile, or compiles for ever, loses the whole batch of the engine that meets it. So each new
one first passes a checker that knows what grammars enforce, and then makes a few tokens on a stand-in: a tiny model
with the same vocabulary in a process of its own. Knows nothing of what the engines compute with.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Final

from corral.core.errors import CheckpointRefused, EngineFailed, InvalidRequest
from corral.core.generation import Constraint, Sampling
from corral.engines.base import Engine, EngineRequest
from corral.engines.patterns import read_pattern
from corral.engines.schemas import read_schema

MAX_PATTERN_CHARS: Final = 16 * 1024
_LONG_SOURCE_CHARS: Final = 2000
"""From here on a constraint is read in a thread: 64 KiB of one take a tenth of a second, which all runs would wait."""
_REMEMBERED: Final = 1024
_TRIAL_TOKENS: Final = 24
_SLOWEST_TOKEN_S: Final = 0.1
"""A stand-in makes a token in a millisecond or two; what is above that is the grammar's, and all streams would wait."""


class ConstraintVetting:
    """Says yes or no to constraints, and remembers what it said."""

    def __init__(self, stand_in: Engine) -> None:
        """Take charge of an engine.

        Args:
            stand_in: started at the first constraint. It must give a run up at the first death of a worker, run one
                at a time, and have a step timeout as short as a batch can bear to stand still.
        """
        self._stand_in = stand_in
        self._refusals: OrderedDict[bytes, str | None] = OrderedDict()
        self._stack: AsyncExitStack | None = None
        self._started = False

    @asynccontextmanager
    async def run(self) -> AsyncGenerator[None]:
        """Allow the stand-in to run for as long as the block lasts."""
        async with AsyncExitStack() as self._stack:
            yield

    async def vet(self, request: EngineRequest) -> Constraint | None:
        """The constraint of a request in the form that engines get.

        Raises:
            InvalidRequest: it is malformed, cannot be enforced, or costs too much.
            EngineUnavailable: the stand-in cannot be started.
            Overloaded: too many constraints wait to be tried.
        """
        constraint = request.constraint
        if constraint is None:
            return None
        is_short = len(constraint.source) < _LONG_SOURCE_CHARS
        plain = _plain(constraint) if is_short else await asyncio.to_thread(_plain, constraint)
        digest = hashlib.sha256(f"{plain.kind}\0{plain.source}".encode()).digest()
        if digest not in self._refusals:
            refusal = await self._try(replace(request, constraint=plain))
            self._refusals[digest] = refusal
            if len(self._refusals) > _REMEMBERED:
                self._refusals.popitem(last=False)
        self._refusals.move_to_end(digest)
        refusal = self._refusals[digest]
        if refusal is not None:
            raise InvalidRequest(refusal, param="response_format")
        return plain

    async def _try(self, request: EngineRequest) -> str | None:
        """Why it is refused; None if it is not."""
        await self._start()
        clock = asyncio.get_running_loop().time
        asked = EngineRequest(
            prompt_ids=(1,),
            max_new_tokens=_TRIAL_TOKENS,
            min_new_tokens=0,
            seed=0,
            sampling=Sampling(),
            stop_ids=request.stop_ids,
            constraint=request.constraint,
            flow=request.flow,
        )
        first_s, tokens = 0.0, 0
        try:
            async with self._stand_in.open(asked) as run:
                async for batch in run:
                    first_s = first_s or clock()
                    tokens += len(batch.ids)
        except EngineFailed:
            return "The engine cannot compile this response_format, or not in a bearable time."
        if clock() - first_s > _SLOWEST_TOKEN_S * tokens:
            return "This response_format slows down every token too much; ask for shorter repetitions."
        return None

    async def _start(self) -> None:
        if not self._started:
            if self._stack is None:
                raise RuntimeError("constraints can be vetted only while run() lasts")
            self._started = True
            await self._stack.enter_async_context(self._stand_in.run())
        try:
            await self._stand_in.ready()
        except CheckpointRefused as error:
            raise InvalidRequest("Answers of this model cannot be constrained.", param="response_format") from error


def _plain(constraint: Constraint) -> Constraint:
    match constraint.kind:
        case "json_schema":
            return replace(constraint, source=read_schema(constraint.source))
        case "regex":
            if len(constraint.source) > MAX_PATTERN_CHARS:
                raise InvalidRequest(
                    f"The regular expression has more than {MAX_PATTERN_CHARS} characters.", param="response_format"
                )
            return replace(constraint, source=read_pattern(constraint.source).text)
