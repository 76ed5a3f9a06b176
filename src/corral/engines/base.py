"""The seam between the gateway and whatever computes tokens.

Two request types keep unchecked input out of an engine: a door makes a ``GenerationRequest``; only
``service.generate`` turns that into an ``EngineRequest``, in which nothing is optional. An engine checks it once more
against its own vocabulary and context (``check_request``), because real engines accept nonsense silently.
"""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, Self

from corral.core.errors import InvalidRequest, PromptTooLong
from corral.core.generation import Constraint, Sampling
from corral.core.ranges import SAMPLING


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRequest:
    """One sequence to generate. Nothing is optional: seed drawn, limits clamped, ids in the vocabulary."""

    prompt_ids: tuple[int, ...]
    max_new_tokens: int
    """At least 1, or 0 with ``echo``; prompt and answer together fit the context."""
    min_new_tokens: int
    """EOS is not chosen before this many tokens; at most ``max_new_tokens``."""
    seed: int
    """In [0, 2**64)."""
    sampling: Sampling
    constraint: Constraint | None = None
    """What the whole answer matches; with it, neither ``min_new_tokens`` nor ``ignore_eos``."""
    echo: bool = False
    """Give the log probabilities of the prompt's tokens in the first batch."""
    emitted_ids: tuple[int, ...] = ()
    """What an earlier process emitted for this request: counted in ``max_new_tokens``, not emitted again. Less than
    the whole answer."""
    flow: str = ""
    """Whose share of the queue this counts against."""
    ignore_eos: bool = False
    """Run to ``max_new_tokens`` whatever the model says: benchmarks and tests."""


class EndReason(StrEnum):
    """Why an engine ended a sequence."""

    EOS = "eos"
    LENGTH = "length"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenBatch:
    """What came since the last batch: one step's tokens, or several steps' for a slow reader."""

    ids: tuple[int, ...]
    """EOS included when the model chose it."""
    logprobs: tuple[float, ...]
    """Natural logarithm of each chosen token's probability, before temperature and truncation; same length."""
    end: EndReason | None
    """Set on the last batch, and only there."""
    prompt_logprobs: tuple[float, ...] | None = None
    """With ``echo``, on the first batch: one for each prompt token after the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """What a loaded engine is."""

    engine: str
    """``openvino``, ``scripted``, …"""
    weights: str
    """Storage of the weights: ``int8``, ``int4``, ``bf16``, ``f32``; ``int8 from Q4_K`` if the file decided."""
    weights_id: str
    """Digest of configuration, tokenizer and weight files, with how they are stored: ``9f3c…:int4``. A run continues
    after a restart only on the weights that it began on."""
    vocab_size: int
    context_tokens: int
    eos_token_id: int
    kv_block_tokens: int
    """Tokens one KV-cache block holds."""
    kv_blocks: int
    """Blocks that requests may hold together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStats:
    """Where an engine stands now."""

    running: int
    """Sequences in the batch."""
    waiting: int
    """Requests that wait for a slot or for KV blocks."""
    kv_blocks_reserved: int
    """Blocks promised to running sequences: enough for each to finish."""
    kv_usage_percent: float
    """Share of the KV cache that the engine itself says is in use; lags one step."""
    emitted_tokens: int
    """Tokens emitted since the gateway started, over all workers; the sum of the next three."""
    delivered_tokens: int
    """... of which readers took, or may still take."""
    discarded_tokens: int
    """... of which came for readers who had left, or left before they took them."""
    replayed_tokens: int
    """... of which repeated what readers had, after a worker died."""
    restarts: int
    """Times a worker had to be replaced."""
    recovering: bool
    """Whether runs that crashed workers are computed alone, while the others wait."""
    worker_pid: int | None
    """Process that computes; None while there is none."""


class EngineRun(Protocol):
    """One request in an engine: an asynchronous iterator over its tokens, for one reader."""

    @property
    def position(self) -> int:
        """Place in the queue: 1 is next, 0 means that it has joined the batch, or is over.

        Told a few times a second. Others may join the queue in front, as every account has its share of it; a run
        that was in the batch stays at 0 even while its worker is being replaced.
        """
        ...

    @property
    def recovering(self) -> bool:
        """Whether it waits because a run that crashed workers is computed alone."""
        ...

    async def moved(self) -> None:
        """Return when ``position`` or ``recovering`` differs from the last return, or opening; may be cancelled."""
        ...

    def __aiter__(self) -> Self:
        """Itself."""
        ...

    async def __anext__(self) -> TokenBatch:
        """What came since the last batch.

        Raises:
            EngineUnavailable: no worker can be had.
            EngineFailed: the engine died on this run too often, or lost its place in a constrained answer.
            InvalidRequest: the engine refuses the request after all.
        """
        ...


class Engine(Protocol):
    """Five members. Anything an engine learns to do later becomes a field of a request or of the stats."""

    @property
    def info(self) -> EngineInfo:
        """What is loaded; raises EngineUnavailable before the first load is complete."""
        ...

    def run(self) -> AbstractAsyncContextManager[None]:
        """Compute for as long as the block lasts. Entering starts to load and returns at once.

        Leaving stops the engine and frees everything; running requests end with EngineUnavailable.
        """
        ...

    async def ready(self) -> None:
        """Return when the next request would be answered: loaded and warmed up.

        Raises:
            CheckpointRefused: the weights cannot be served.
            EngineUnavailable: the engine could not be started.
        """
        ...

    def open(self, request: EngineRequest) -> AbstractAsyncContextManager[EngineRun]:
        """Run one request; iterate for its tokens, leave the block to free its slot and KV cache.

        Leaving for any reason (end, break, cancellation, error) frees both within one step of the engine.

        Raises:
            InvalidRequest: on entering, when ``check_request`` refuses.
            Overloaded: on entering, when too much is waiting already, it could not start soon, or the engine recovers.
            EngineUnavailable: on entering or while iterating, when no worker can be had.
            EngineFailed: while iterating, when the engine died on this run too often.
        """
        ...

    def stats(self) -> EngineStats:
        """A snapshot; never blocks."""
        ...


def check_request(request: EngineRequest, info: EngineInfo) -> None:
    """Refuse what an engine must never see.

    Raises:
        InvalidRequest: an empty prompt, an id outside the vocabulary, a limit or sampling value out of range, an
            answer so far that is complete.
        PromptTooLong: prompt and answer do not fit the context or the KV cache.
    """
    prompt_tokens = len(request.prompt_ids)
    if prompt_tokens == 0:
        raise InvalidRequest("The prompt is empty.", param="prompt")
    _check_ids(request.prompt_ids, info, what="prompt", param="prompt")
    room_tokens = min(info.context_tokens, info.kv_blocks * info.kv_block_tokens)
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
    if request.emitted_ids:
        _check_emitted(request, info)
    if not 0 <= request.seed < 2**64:
        raise InvalidRequest("seed must be in [0, 2**64).")
    check_sampling(request.sampling)


def _check_ids(ids: tuple[int, ...], info: EngineInfo, *, what: str, param: str | None = None) -> None:
    for token_id in (min(ids), max(ids)):
        if not 0 <= token_id < info.vocab_size:
            raise InvalidRequest(
                f"Token id {token_id} of the {what} is not in the vocabulary: ids go from 0 to {info.vocab_size - 1}.",
                param=param,
            )


def _check_emitted(request: EngineRequest, info: EngineInfo) -> None:
    _check_ids(request.emitted_ids, info, what="answer so far")
    if len(request.emitted_ids) >= request.max_new_tokens:
        raise InvalidRequest("The answer so far has max_new_tokens already.")
    if info.eos_token_id in request.emitted_ids and not request.ignore_eos:
        raise InvalidRequest("The answer so far has ended already.")


def check_sampling(sampling: Sampling) -> None:
    """Refuse sampling values that an engine would raise on, or accept and misread (nan compares false).

    Raises:
        InvalidRequest: names the field and its range.
    """
    for name, allowed in SAMPLING.items():
        if not allowed.holds(getattr(sampling, name)):
            raise InvalidRequest(f"'{name}' must be {allowed}.", param=name)
