"""Engine protocol: token ids in, token ids out; the requests, the limits, and the check in front of every engine.

Two request types keep unchecked input out of an engine: API routes make a ``GenerationRequest``, and only
``service.runs.prepare`` turns that into an ``EngineRequest``. An engine checks it once more against its own vocabulary
and context (``check_request``), because inference libraries accept invalid values silently.
"""

from collections.abc import Collection
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, Self

from corral.core.errors import InvalidRequest, PromptTooLong
from corral.core.generation import Constraint, Sampling
from corral.core.ranges import SAMPLING
from corral.engines.stats import EngineStats


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRequest:
    """A request for one sequence, fully determined: seed drawn, limits clamped, ids in the vocabulary."""

    prompt_ids: tuple[int, ...]
    max_new_tokens: int
    """At least 1, or 0 with ``echo``; prompt and answer together fit the context."""
    min_new_tokens: int
    """None of ``stop_ids`` is chosen before this many tokens; at most ``max_new_tokens``."""
    seed: int
    """In [0, 2**64)."""
    sampling: Sampling
    stop_ids: frozenset[int]
    """Token ids that end the answer; if empty, only ``max_new_tokens`` does."""
    constraint: Constraint | None = None
    """Schema or pattern that the whole answer matches; excludes ``min_new_tokens`` and ``ignore_eos``."""
    echo: bool = False
    """Return the log probabilities of the prompt's tokens in the first batch."""
    emitted_ids: tuple[int, ...] = ()
    """Tokens that an earlier process emitted for this request: they count in ``max_new_tokens`` and are not emitted
    again. Fewer than the whole answer."""
    flow: str = ""
    """Queue share that this counts against: the account."""
    low_priority: bool = False
    """Start only while no request of normal priority waits, and make way for one that needs the room."""
    ignore_eos: bool = False
    """Generate ``max_new_tokens``, whatever ``stop_ids`` says: benchmarks and tests."""


class EndReason(StrEnum):
    """Why an engine ended a sequence."""

    EOS = "eos"
    LENGTH = "length"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenBatch:
    """Tokens since the last batch: of one step, or of several steps for a slow reader."""

    ids: tuple[int, ...]
    """The stop token included, if the model chose one."""
    logprobs: tuple[float, ...]
    """Natural logarithm of each chosen token's probability, before temperature and truncation; same length."""
    end: EndReason | None
    """Set on the last batch, and only there."""
    prompt_logprobs: tuple[float, ...] | None = None
    """With ``echo``, on the first batch: one for each prompt token after the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """Description of a loaded engine."""

    engine: str
    """``openvino``, ``scripted``, …"""
    weights: str
    """Storage of the weights: ``int8``, ``int4``, ``bf16``, ``f32``; ``int8 from Q4_K`` if the file decided."""
    weights_id: str
    """Digest of configuration, tokenizer and weight files, with how they are stored: ``9f3c…:int4``. A run continues
    after a restart only on the weights that it began on."""
    vocab_size: int
    context_tokens: int
    kv_block_tokens: int | None = None
    """Tokens of one KV-cache block. None: the engine has no KV blocks to admit by."""
    kv_blocks: int | None = None
    """Blocks that all sequences share. None, like ``kv_block_tokens``: sequences are limited by number and context."""

    @property
    def room_tokens(self) -> int:
        """Most tokens of one sequence, prompt and answer together: the context, or a smaller KV cache."""
        if self.kv_blocks is None or self.kv_block_tokens is None:
            return self.context_tokens
        return min(self.context_tokens, self.kv_blocks * self.kv_block_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLimits:
    """Limits of a request, known from configuration and tokenizer before anything is loaded."""

    vocab_size: int
    context_tokens: int
    room_tokens: int
    """Most tokens of one sequence, prompt and answer together: the context, or a smaller KV cache."""
    max_sequences: int
    """Most sequences that one worker computes at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """Features of an engine, known before it is loaded."""

    echo: bool
    """``EngineRequest.echo`` is allowed, also with ``max_new_tokens`` 0."""
    logprobs: bool
    """Each token comes with its log probability."""
    top_logprobs: int
    """Most alternatives per token whose log probabilities it can give; 0 is none."""
    constraints: bool
    """``EngineRequest.constraint`` is allowed."""
    deterministic_replay: bool
    """The same sampled request gives the same tokens again, on any worker."""
    prompt_logprobs: bool
    """The first batch of an echo has the log probabilities of the prompt's tokens."""


class EngineRun(Protocol):
    """One request in an engine: an asynchronous iterator over its tokens, for one reader."""

    @property
    def position(self) -> int:
        """Place in the queue: 1 is next, 0 means that a worker computes it, or that it is over.

        Updated a few times a second. Others may join the queue in front, as every account has its share of it. It
        stays at 0 while another worker is sought because its own died.
        """
        ...

    @property
    def recovering(self) -> bool:
        """Whether it waits because a sequence that may have crashed workers is computed alone."""
        ...

    @property
    def continued(self) -> bool:
        """Whether it goes on from prompt and tokens so far, as a prompt, because it could not be replayed.

        Its rest may then differ from what an undisturbed run would have given.
        """
        ...

    async def moved(self) -> None:
        """Return when ``position`` or ``recovering`` differs from the last return, or opening; may be cancelled."""
        ...

    def __aiter__(self) -> Self:
        """Return itself."""
        ...

    async def __anext__(self) -> TokenBatch:
        """Wait for the next tokens.

        Raises:
            EngineUnavailable, CheckpointRefused: no worker can be had.
            EngineFailed: workers died on this request too often, or a constrained answer could not be continued.
            InvalidRequest: the engine refuses the request after all.
        """
        ...


class Engine(Protocol):
    """An engine. New features become fields of requests, capabilities or stats, not new members."""

    @property
    def capabilities(self) -> Capabilities:
        """Features, known before any load."""
        ...

    @property
    def limits(self) -> EngineLimits:
        """Limits of a request, known before any load; the loaded engine's own afterwards."""
        ...

    @property
    def info(self) -> EngineInfo:
        """Description of what is loaded; raises EngineUnavailable before the first load is complete."""
        ...

    def run(self) -> AbstractAsyncContextManager[None]:
        """Compute while the block is active. Entering starts the load and returns at once.

        Leaving stops the engine and frees everything. Running requests end with EngineUnavailable; waiting ones wait
        for the next time. May be entered again.
        """
        ...

    async def ready(self) -> None:
        """Return when the engine is loaded and warmed up; waits while ``run`` is not entered.

        Raises:
            CheckpointRefused: the weights cannot be served.
            EngineUnavailable: the engine could not be started.
        """
        ...

    def open(self, request: EngineRequest) -> AbstractAsyncContextManager[EngineRun]:
        """Compute one request; iterate for its tokens, leave the block to free its slot and KV cache.

        Accepted before the engine is loaded, and while ``run`` is not entered; it then waits. Leaving for any reason
        (end, break, cancellation, error) frees slot and cache within one step of the engine.

        Raises:
            InvalidRequest: on entering, when ``check_request`` refuses.
            Overloaded: on entering, when too much is waiting already, it could not start soon, or the engine recovers.
            EngineUnavailable: on entering or while iterating, when the load has failed or the engine is shut down.
            EngineFailed: while iterating, when workers died on this request too often.
        """
        ...

    def close_admission(self) -> None:
        """Accept no more requests, for good: waiting ones end with EngineUnavailable; running ones go on."""
        ...

    def stats(self) -> EngineStats:
        """Snapshot of state and counters; never blocks."""
        ...


class RequestLimits(Protocol):
    """The limits that ``check_request`` needs: an ``EngineInfo`` or ``EngineLimits``."""

    @property
    def vocab_size(self) -> int:
        """Token ids are below this."""
        ...

    @property
    def room_tokens(self) -> int:
        """Most tokens of one sequence, prompt and answer together."""
        ...


def check_request(request: EngineRequest, limits: RequestLimits) -> None:
    """Refuse an invalid request.

    Raises:
        InvalidRequest: an empty prompt, an id outside the vocabulary, a limit or sampling value out of range, an
            answer so far that is complete.
        PromptTooLong: prompt and answer do not fit the context or the KV cache.
    """
    prompt_tokens = len(request.prompt_ids)
    if prompt_tokens == 0:
        raise InvalidRequest("The prompt is empty.", param="prompt")
    _check_ids(request.prompt_ids, limits, what="prompt", param="prompt")
    room_tokens = limits.room_tokens
    least_new_tokens = 0 if request.echo else 1
    if prompt_tokens + least_new_tokens > room_tokens:
        raise PromptTooLong(prompt_tokens=prompt_tokens, context_tokens=room_tokens)
    if not least_new_tokens <= request.max_new_tokens <= room_tokens - prompt_tokens:
        raise InvalidRequest(f"max_new_tokens must be in [{least_new_tokens}, {room_tokens - prompt_tokens}].")
    if not 0 <= request.min_new_tokens <= request.max_new_tokens:
        raise InvalidRequest("min_new_tokens must be in [0, max_new_tokens].")
    if request.constraint is not None and (request.min_new_tokens or request.ignore_eos):
        raise InvalidRequest(
            "A constrained answer ends where its constraint says, so it can have no minimum length.",
            param="response_format",
        )
    if request.stop_ids:
        _check_ids(request.stop_ids, limits, what="stop tokens")
    if request.emitted_ids:
        _check_emitted(request, limits)
    if not 0 <= request.seed < 2**64:
        raise InvalidRequest("seed must be in [0, 2**64).")
    check_sampling(request.sampling)


def _check_ids(ids: Collection[int], limits: RequestLimits, *, what: str, param: str | None = None) -> None:
    last_id = limits.vocab_size - 1
    for token_id in (min(ids), max(ids)):
        if not 0 <= token_id <= last_id:
            raise InvalidRequest(
                f"Token id {token_id} of the {what} is not in the vocabulary: ids go from 0 to {last_id}.",
                param=param,
            )


def _check_emitted(request: EngineRequest, limits: RequestLimits) -> None:
    _check_ids(request.emitted_ids, limits, what="answer so far")
    if len(request.emitted_ids) >= request.max_new_tokens:
        raise InvalidRequest("The answer so far has max_new_tokens already.")
    if not request.ignore_eos and not request.stop_ids.isdisjoint(request.emitted_ids):
        raise InvalidRequest("The answer so far has ended already.")


def check_sampling(sampling: Sampling) -> None:
    """Refuse sampling values that an engine would raise on, or misread silently (nan compares false).

    Raises:
        InvalidRequest: names the field and its range.
    """
    for name, allowed in SAMPLING.items():
        if not allowed.holds(getattr(sampling, name)):
            raise InvalidRequest(f"'{name}' must be {allowed}.", param=name)
