"""The core generation request and its stream of events, shared by all doors.

There is no separate non-streaming path: ``collect(events)`` folds the stream into whole answers. Prompts are text or
messages here; ``service.runs.prepare`` tokenizes them.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain
from typing import Literal

from corral.core.tools import Tool, ToolCall, ToolChoice


class Role(StrEnum):
    """Role of a chat message."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"
    """The result of a call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A chat message. The content is never read as control tokens."""

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    """Calls that an assistant message makes after its content."""
    tool_call_id: str | None = None
    """Of a tool message: the call whose result it is, one of the assistant message before it."""


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """A conversation, to be rendered in the model's chat format."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    """Functions that the answer may call; see ``core.tools``."""
    tool_choice: ToolChoice = field(default_factory=ToolChoice)
    parallel_tool_calls: bool = True
    """Whether one answer may make several calls."""

    @property
    def offered_tools(self) -> tuple[Tool, ...]:
        """Tools that the answer may call."""
        if self.tool_choice.mode == "none":
            return ()
        names = self.tool_choice.names
        return tuple(tool for tool in self.tools if tool.name in names) if names else self.tools

    @property
    def requires_call(self) -> bool:
        """Whether the answer must be one or more calls."""
        return self.tool_choice.mode == "required"


@dataclass(frozen=True, slots=True)
class RawPrompt:
    """A raw prompt, used without a chat format. Control tokens that it writes, such as ``</s>``, count as such."""

    text: str
    is_llama2: bool = False
    """Whether the API, and not the caller, wrote it in Llama 2's chat format; another model is given its own format."""


@dataclass(frozen=True, slots=True)
class TokenPrompt:
    """A prompt of token ids, used unchanged."""

    ids: tuple[int, ...]


Prompt = ChatPrompt | RawPrompt | TokenPrompt


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Sampling parameters. The defaults turn each of them off."""

    temperature: float = 1.0
    """0 is greedy: always the most likely token; the seed has no effect."""
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
        """Whether decoding is greedy, so that the seed has no effect."""
        return self.temperature == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping:
    """Conditions that end a sequence, in addition to the model's end-of-sequence token."""

    max_tokens: int | None = None
    """Most output tokens; None is the rest of the context."""
    min_tokens: int = 0
    """The end-of-sequence token is suppressed for this many tokens."""
    stop: tuple[str, ...] = ()
    """Stop strings: the text ends before the first one found, also if it spans several tokens."""
    hidden_lead: str = ""
    """A character that is dropped at the start of the text, such as a space; no stop string can start in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """A grammar that the whole answer must match. The engine masks every token that would break it."""

    kind: Literal["json_schema", "regex"]
    source: str
    """A JSON Schema as JSON text, or a regular expression."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """A generation request, independent of the API. ``service.runs.prepare`` fills in the optional fields."""

    model: str
    prompt: Prompt
    sampling: Sampling = field(default_factory=Sampling)
    stopping: Stopping = field(default_factory=Stopping)
    seed: int | None = None
    """None draws a random seed; any integer is accepted and reduced to 64 bits. Choice k uses seed + k."""
    choices: int = 1
    """Number of independent answers, 1 to 4; the prompt is billed once."""
    constraint: Constraint | None = None
    echo: bool = False
    """Return the prompt too, with the log probabilities of its tokens."""
    pieces: bool = False
    """Whether deltas contain the bytes of each token; needed only to show log probabilities."""
    top_logprobs: int = 0
    """Number of most likely tokens to list for each token, with their log probabilities; 0 lists none."""


class FinishReason(StrEnum):
    """Why a sequence ended."""

    STOP = "stop"
    """The model emitted its end-of-sequence token, or a stop string was found."""
    LENGTH = "length"
    """``max_tokens`` or the context length was reached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Token counts of a run. ``completion_tokens`` counts all emitted tokens, including EOS and stop strings."""

    prompt_tokens: int
    completion_tokens: int

    @property
    def total_tokens(self) -> int:
        """Sum of prompt and completion tokens."""
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """The run is queued. Sent again when its position changes; only before ``Started``."""

    position: int
    """1 is next."""
    recovering: bool = False
    """Whether the queue waits because the engine computes a run alone that crashed its workers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The engine has started the run. Sent exactly once, before ``Delta`` and later events."""

    prompt_tokens: int
    seed: int
    echo: "Echo | None" = None
    """The prompt, if the request set ``echo``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Echo:
    """The prompt with its tokens and their log probabilities."""

    text: str
    ids: tuple[int, ...]
    pieces: tuple[bytes, ...]
    logprobs: tuple[float | None, ...]
    """None for the first token, which has no context."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """New output of one choice. The text has no partial characters or stop strings; the tokens may be ahead of it."""

    choice: int
    text: str
    ids: tuple[int, ...]
    """New token ids, including those of a stop string and EOS."""
    logprobs: tuple[float, ...]
    """Natural logarithm of each token's probability; same length as ``ids``."""
    pieces: tuple[bytes, ...] = ()
    """Bytes of each token, if the request set ``pieces``; same length as ``ids``."""
    completion_tokens: int
    """Tokens of this choice so far, including these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceEnded:
    """One choice is complete; no more events for it follow."""

    choice: int
    reason: FinishReason
    stop: str | None = None
    """The stop string that ended the choice; not part of the text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """All choices are complete. The last event of a run that did not fail and was not cancelled."""

    usage: Usage


GenerationEvent = Queued | Started | Delta | ChoiceEnded | Finished


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A complete choice."""

    text: str
    reason: FinishReason
    stop: str | None
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    pieces: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationResult:
    """The complete result of a run."""

    choices: tuple[Choice, ...]
    usage: Usage
    seed: int
    echo: Echo | None


async def collect(events: AsyncIterator[GenerationEvent]) -> GenerationResult:
    """Collect a stream of events into a result.

    Raises:
        RuntimeError: the stream ended without ``Started`` or ``Finished``, which is a bug.
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
