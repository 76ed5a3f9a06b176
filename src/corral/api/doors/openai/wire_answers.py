"""What this door writes, as JSON. Knows nothing of where the values come from: see ``answers``."""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import WithJsonSchema
from typing_extensions import TypedDict  # pydantic reads typing's own from Python 3.12 on

from corral.api.operation import Fault

Usd = Annotated[Any, WithJsonSchema({"type": "number", "minimum": 0})]
"""Exact decimal dollars: JSON text that was made from integers, never from a float."""


class WireUsage(TypedDict):
    """Tokens of one request, all its choices together, and what they cost."""

    prompt_tokens: int
    total_tokens: int
    completion_tokens: int
    estimated_cost: Usd


class TokenLogprob(TypedDict):
    """One token and how likely it was."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: NotRequired[list["TokenLogprob"]]


class ChatLogprobs(TypedDict):
    """Log probabilities of a chat's answer."""

    content: list[TokenLogprob]
    refusal: None


class LegacyLogprobs(TypedDict):
    """Log probabilities of a completion; four lists of the same length."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class WireMessage(TypedDict):
    """The answer's turn."""

    role: Literal["assistant"]
    content: str


class ChatChoice(TypedDict):
    """One answer to a chat."""

    index: int
    message: WireMessage
    logprobs: NotRequired[ChatLogprobs]
    finish_reason: Literal["stop", "length"]


class ChatCompletion(TypedDict):
    """Body of a whole answer to a chat."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: WireUsage


class CompletionChoice(TypedDict):
    """One completion."""

    index: int
    text: str
    logprobs: LegacyLogprobs | None
    finish_reason: Literal["stop", "length"]


class Completion(TypedDict):
    """Body of a whole completion."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: WireUsage


class ChatDelta(TypedDict):
    """More of an answer; nothing in a choice's last chunk."""

    role: NotRequired[Literal["assistant"]]
    content: NotRequired[str]


class ChatChunkChoice(TypedDict):
    """One choice's part of a chunk."""

    index: int
    delta: ChatDelta
    logprobs: NotRequired[ChatLogprobs]
    finish_reason: Literal["stop", "length"] | None


class ChatChunk(TypedDict):
    """An event of a streamed answer to a chat."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChatChunkChoice]
    usage: NotRequired[WireUsage | None]


class CompletionChunkChoice(TypedDict):
    """One choice's part of a chunk."""

    index: int
    text: str
    logprobs: LegacyLogprobs | None
    finish_reason: Literal["stop", "length"] | None


class CompletionChunk(TypedDict):
    """An event of a streamed completion."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChunkChoice]
    usage: NotRequired[WireUsage | None]


class Pricing(TypedDict):
    """Dollars per million tokens."""

    input_tokens: Usd
    output_tokens: Usd


class ModelMetadata(TypedDict):
    """What DeepInfra's clients read of a model."""

    description: str
    context_length: int
    max_tokens: int
    pricing: Pricing
    tags: list[str]


class ModelWeights(TypedDict):
    """What really answers for a model."""

    weights: str
    stands_in: bool
    state: str
    """State of the deployment: ``ready``, ``loading 40 %``, ``failed``."""


class Model(TypedDict):
    """An entry of the list of models."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    root: str
    parent: None
    metadata: ModelMetadata
    corral: ModelWeights


class ModelList(TypedDict):
    """The served models."""

    object: Literal["list"]
    data: list[Model]


class CostEstimate(TypedDict):
    """What a request would cost; prices are dollars per million tokens, costs are dollars."""

    model: str
    prompt_tokens: int
    max_completion_tokens: int
    input_price: Usd
    output_price: Usd
    prompt_cost: Usd
    worst_case_cost: Usd
    price_version: str


class ErrorObject(TypedDict):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(TypedDict):
    """Body of every refusal of this door but those of validation."""

    error: ErrorObject


class InvalidAnswer(ErrorAnswer):
    """Body of a refusal of fields that are wrong: each of them, and the error object that OpenAI's clients show."""

    detail: list[Fault]
