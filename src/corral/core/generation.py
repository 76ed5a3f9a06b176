"""What is asked of a model and what comes back: one request, one stream of events.

A whole answer is ``collect(events)``; there is no second, non-streaming path. Knows nothing of token ids on the way
in (``service.generate`` makes those) and nothing of HTTP.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain
from typing import Literal


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


@dataclass(frozen=True, slots=True)
class TokenPrompt:
    """A prompt that is token ids already; taken as it is, nothing added."""

    ids: tuple[int, ...]


Prompt = ChatPrompt | RawPrompt | TokenPrompt


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
    hidden_lead: str = ""
    """One character that is not shown where an answer begins with it, so that no stop string can begin in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """What the whole answer must match; the engine can choose no token that breaks it."""

    kind: Literal["json_schema", "regex"]
    source: str
    """A JSON Schema as JSON text, or a regular expression."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """What a door asks for. Optional fields are still open; ``service.generate`` closes them."""

    model: str
    prompt: Prompt
    sampling: Sampling = field(default_factory=Sampling)
    stopping: Stopping = field(default_factory=Stopping)
    seed: int | None = None
    """None draws one; any integer is accepted and reduced to 64 bits. Choice k is generated with seed + k."""
    choices: int = 1
    """Independent answers to the same prompt, 1 to 4; the prompt is billed once."""
    constraint: Constraint | None = None
    echo: bool = False
    """Give the prompt back too, with its tokens' log probabilities."""
    pieces: bool = False
    """Whether deltas say what each token is; only whoever shows log probabilities needs it."""
    top_logprobs: int = 0
    """For each token, also list this many of the most likely tokens with their log probabilities; 0 lists none."""


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
class Queued:
    """The run waits for the engine; told again when the position changes. Only before ``Started``."""

    position: int
    """1 is next."""
    recovering: bool = False
    """Whether it waits because the engine computes a run alone that crashed its workers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The engine has begun. Exactly one, before every event that follows."""

    prompt_tokens: int
    seed: int
    echo: "Echo | None" = None
    """The prompt, when it was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Echo:
    """The prompt as the engine read it."""

    text: str
    ids: tuple[int, ...]
    pieces: tuple[bytes, ...]
    logprobs: tuple[float | None, ...]
    """None for the first token, which nothing precedes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """More of one choice. Its text has no half characters and no part of a stop string; its tokens may run ahead."""

    choice: int
    text: str
    ids: tuple[int, ...]
    """Tokens that came with it; those of a stop string and EOS included."""
    logprobs: tuple[float, ...]
    """Natural logarithm of each token's probability; same length."""
    pieces: tuple[bytes, ...] = ()
    """Bytes that each token stands for, when asked for; same length."""
    completion_tokens: int
    """Tokens of this choice so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceEnded:
    """One choice is complete; nothing more comes of it."""

    choice: int
    reason: FinishReason
    stop: str | None = None
    """The stop string that ended it, which is not part of the text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """Every choice is complete. The last event; exactly one in a run that neither failed nor was cancelled."""

    usage: Usage


GenerationEvent = Queued | Started | Delta | ChoiceEnded | Finished


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One whole answer."""

    text: str
    reason: FinishReason
    stop: str | None
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    pieces: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationResult:
    """Everything a run gave."""

    choices: tuple[Choice, ...]
    usage: Usage
    seed: int
    echo: Echo | None


async def collect(events: AsyncIterator[GenerationEvent]) -> GenerationResult:
    """Fold a stream of events into whole answers.

    Raises:
        RuntimeError: the stream ended without ``Started`` or ``Finished``, which is a bug in its source.
    """
    started: Started | None = None
    deltas: dict[int, list[Delta]] = {}
    ends: dict[int, ChoiceEnded] = {}
    async for event in events:
        match event:
            case Queued():
                pass
            case Started():
                started = event
            case Delta():
                deltas.setdefault(event.choice, []).append(event)
            case ChoiceEnded():
                ends[event.choice] = event
            case Finished():
                if started is None:
                    break
                choices = tuple(_choice(deltas.get(index, []), ends[index]) for index in sorted(ends))
                return GenerationResult(choices=choices, usage=event.usage, seed=started.seed, echo=started.echo)
    raise RuntimeError("a generation must begin with Started and end with Finished")


def _choice(deltas: list[Delta], end: ChoiceEnded) -> Choice:
    return Choice(
        text="".join(delta.text for delta in deltas),
        reason=end.reason,
        stop=end.stop,
        ids=tuple(chain.from_iterable(delta.ids for delta in deltas)),
        logprobs=tuple(chain.from_iterable(delta.logprobs for delta in deltas)),
        pieces=tuple(chain.from_iterable(delta.pieces for delta in deltas)),
    )
