"""Checks constraints (JSON schemas, regular expressions) before the engine that serves sees them.

A constraint that does not compile, or compiles for ever, costs an engine its whole batch. So each new one is first
parsed, and then tried on a checker engine: a tiny model with the same vocabulary, in a process of its own.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Final

from corral.core.errors import CheckpointRefused, EngineFailed, EngineUnavailable, InvalidRequest
from corral.core.generation import Constraint, Sampling
from corral.engines.base import Engine, EngineRequest
from corral.engines.patterns import read_pattern
from corral.engines.schemas import read_schema

MAX_PATTERN_CHARS: Final = 16 * 1024
_LONG_SOURCE_CHARS: Final = 2000
"""From here on a constraint is read in a thread: 64 KiB of one take a tenth of a second, which all runs would wait."""
_REMEMBERED: Final = 1024
TRIAL_TOKENS: Final = 24
_SLOWEST_TOKEN_S: Final = 0.1
"""A checker engine needs about 1 ms per token; the grammar takes the rest, and all streams would wait for it."""


class ConstraintChecker:
    """Accepts or refuses constraints, and remembers the results."""

    def __init__(self, engine: Engine) -> None:
        """Own a checker engine.

        Args:
            engine: started at the first constraint. It must fail a request at the first death of a worker, compute one
                at a time, and have a step timeout as short as a batch can stand still.
        """
        self._engine = engine
        self._refusals: OrderedDict[bytes, str | None] = OrderedDict()
        self._stack = AsyncExitStack()
        self._is_started = False
        self._may_start = asyncio.Event()
        self._is_closed = False

    @asynccontextmanager
    async def run(self) -> AsyncGenerator[None]:
        """Let the checker engine run while the block is active. May be entered again after it was left."""
        async with AsyncExitStack() as self._stack:
            self._may_start.set()
            try:
                yield
            finally:
                self._is_started = False
                if not self._is_closed:
                    self._may_start.clear()

    def close(self) -> None:
        """End the checks that wait for ``run``, for good."""
        self._is_closed = True
        self._may_start.set()

    async def check(self, request: EngineRequest) -> Constraint | None:
        """Check the constraint of a request; returns it in the form that engines get. Waits for ``run``.

        Raises:
            InvalidRequest: it is malformed, cannot be enforced, or costs too much.
            EngineUnavailable: the checker engine cannot be started, or stops.
            Overloaded: too many constraints wait for their check.
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
        """Returns why the constraint is refused; None if it is not."""
        await self._start()
        clock = asyncio.get_running_loop().time
        asked = EngineRequest(
            prompt_ids=(1,),
            max_new_tokens=TRIAL_TOKENS,
            min_new_tokens=0,
            seed=0,
            sampling=Sampling(),
            stop_ids=request.stop_ids,
            constraint=request.constraint,
            flow=request.flow,
        )
        first_s, tokens = 0.0, 0
        try:
            async with self._engine.open(asked) as run:
                async for batch in run:
                    first_s = first_s or clock()
                    tokens += len(batch.ids)
        except EngineFailed:
            return "The engine cannot compile this response_format, or not in a bearable time."
        if clock() - first_s > _SLOWEST_TOKEN_S * tokens:
            return "This response_format slows down every token too much; ask for shorter repetitions."
        return None

    async def _start(self) -> None:
        await self._may_start.wait()
        if self._is_closed:
            raise EngineUnavailable("The engine is shut down.")
        if not self._is_started:
            self._is_started = True
            await self._stack.enter_async_context(self._engine.run())
        try:
            await self._engine.ready()
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
