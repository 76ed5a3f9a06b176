"""Tools that a chat offers to the model, and how its calls of them are read from the text of an answer.

What a door does with them, for all APIs alike:

1. It puts the request's functions into ``ChatPrompt.tools`` (with ``Tool.param``, the field of the schema, so that an
   error names it), the choice into ``tool_choice``, and the history's calls and results into messages:
   ``Message(role=ASSISTANT, content=…, tool_calls=…)`` and ``Message(role=TOOL, content=…, tool_call_id=…)``.
   ``service.runs.prepare`` checks them, writes the prompt in the convention of the model's chat format, and makes the
   grammar of required and strict calls.
2. The answer's events are those of any run: ``Delta.text`` has the calls as the model wrote them. The door gives each
   choice's text to an ``AnswerParser`` made with ``PredictionEvents.call_syntax``, and encodes the parts that come out.
   A whole answer is ``parse_answer(text, …)``: the same parser, fed once. The result does not depend on how the text
   was cut, so live, slow and replayed readers get the same.
3. A choice that has calls and ended with ``FinishReason.STOP`` ended in order to call them: ``tool_calls`` for OpenAI,
   ``tool_use`` for Anthropic. ``LENGTH`` stays what it is: the last call's arguments may be cut off.

Ids of calls are derived from the prediction's id, the choice and the call's index; they need not be stored.
"""

from dataclasses import dataclass, field
from typing import Final, Literal

NO_PARAMETERS: Final = '{"type":"object","properties":{},"additionalProperties":false}'
"""Schema of a function without parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A function that the model may call."""

    name: str
    """1 to 64 letters, digits, ``_`` and ``-``; unique in the request."""
    description: str | None = None
    parameters: str = NO_PARAMETERS
    """JSON Schema of the arguments, which are an object, as JSON text."""
    strict: bool = False
    """Whether arguments must match ``parameters`` also where the model is free to call or not."""
    param: str = "tools"
    """The request's field that has ``parameters``, for errors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolChoice:
    """Which tools the model may or must call."""

    mode: Literal["none", "auto", "required"] = "auto"
    """None: no call, and no tool is listed in the prompt. Auto: as the model likes. Required: at least one call."""
    names: tuple[str, ...] = ()
    """Only these may be called; empty allows all tools of the request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call of a tool by the model."""

    id: str
    name: str
    arguments: str
    """JSON text as the model wrote it. Unless the call was required or strict, it may be invalid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSyntax:
    """How a model writes the calls of one request into its answer: the part of a chat format that readers need."""

    names: tuple[str, ...]
    """Tools that may be called. What looks like a call of another is content."""
    starts: tuple[str, ...] = ()
    """Texts that begin one or more calls."""
    end: str = ""
    """Text after a call; empty if there is none."""
    bare: bool = False
    """Whether an answer that begins with a JSON object begins with a call."""
    is_open: bool = False
    """Whether the prompt ends with the start of a call, so that the answer begins inside."""
    most_calls: int | None = None
    """What follows this many calls is dropped; None is no limit."""


@dataclass(frozen=True, slots=True)
class Content:
    """A piece of the text that is meant for people."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallStarted:
    """A call begins. Its arguments follow, before any other part."""

    index: int
    """Number of the call in its choice, from 0."""
    id: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallArguments:
    """A piece of a call's arguments, as JSON text."""

    index: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CallEnded:
    """A call's arguments are complete, or the answer ended within them."""

    index: int


AnswerPart = Content | CallStarted | CallArguments | CallEnded


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedAnswer:
    """A whole answer of one choice: content and calls."""

    content: str
    calls: tuple[ToolCall, ...] = field(default=())
