"""What is asked of a model and what comes back: one request, one stream of events.

A whole answer is ``collect(events)``; there is no second, non-streaming path. Knows nothing of token ids on the way
in (``service.generate`` makes those) and nothing of HTTP.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import StrEnum


class Role(StrEnum):
    """Who speaks in a chat message."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One turn of a conversation. The content is data: no text in it can become a control token."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """A conversation, to be put into the model's chat format."""

    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class RawPrompt:
    """A prompt written by hand, in which ``<s>`` and ``</s>`` are control tokens."""

    text: str


Prompt = ChatPrompt | RawPrompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How the next token is chosen. Every default means "off"."""

    temperature: float = 1.0
    """0 is greedy: the most likely token, whatever the seed."""
    top_p: float = 1.0
    """Keep the most likely tokens whose probabilities sum to this, in (0, 1]; 1 is off."""
    top_k: int = 0
    """Keep this many of the most likely tokens; 0 is off."""
    min_p: float = 0.0
    """Drop tokens less likely than this share of the most likely one, in [0, 1); 0 is off."""
    repetition_penalty: float = 1.0
    """Divide the logits of tokens seen in prompt or answer by this; above 0, 1 is off."""
    presence_penalty: float = 0.0
    """Subtract this from tokens already in the answer, in [-2, 2]."""
    frequency_penalty: float = 0.0
    """Subtract this per earlier appearance in the answer, in [-2, 2]."""

    @property
    def greedy(self) -> bool:
        """Whether the seed has no say."""
        return self.temperature == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping:
    """When an answer ends, besides the model's own end of sequence."""

    max_tokens: int | None = None
    """At most this many tokens; None is the rest of the context."""
    min_tokens: int = 0
    """The end of sequence is not chosen before this many tokens."""
    stop: tuple[str, ...] = ()
    """The text ends before the first of these, wherever it falls across token borders."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """What a door asks for. Optional fields are still open; ``service.generate`` closes them."""

    model: str
    prompt: Prompt
    sampling: Sampling = field(default_factory=Sampling)
    stopping: Stopping = field(default_factory=Stopping)
    seed: int | None = None
    """None draws one; any integer is accepted and reduced to 64 bits."""


class FinishReason(StrEnum):
    """Why an answer ended."""

    STOP = "stop"
    """The model ended it, or a stop string was met."""
    LENGTH = "length"
    """``max_tokens`` or the context is used up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one run. ``completion_tokens`` counts what the engine emitted: EOS and stop strings included."""

    prompt_tokens: int
    completion_tokens: int

    @property
    def total_tokens(self) -> int:
        """Prompt and completion together."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The request was accepted by the engine's queue. Always the first event."""

    prompt_tokens: int
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """More text. Never half a character, never part of a stop string, never empty."""

    text: str
    completion_tokens: int
    """Tokens emitted so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The answer is complete. Always the last event; exactly one."""

    reason: FinishReason
    usage: Usage


GenerationEvent = Started | Delta | Finished


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationResult:
    """A whole answer."""

    text: str
    reason: FinishReason
    usage: Usage
    seed: int


async def collect(events: AsyncIterator[GenerationEvent]) -> GenerationResult:
    """Fold a stream of events into one answer.

    Raises:
        RuntimeError: the stream ended without ``Started`` or ``Finished``, which is a bug in its source.
    """
    parts: list[str] = []
    seed: int | None = None
    async for event in events:
        match event:
            case Started():
                seed = event.seed
            case Delta():
                parts.append(event.text)
            case Finished():
                if seed is None:
                    break
                return GenerationResult(text="".join(parts), reason=event.reason, usage=event.usage, seed=seed)
    raise RuntimeError("a generation must begin with Started and end with Finished")
