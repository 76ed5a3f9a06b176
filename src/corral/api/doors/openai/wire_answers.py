"""Response types."""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import WithJsonSchema
from typing_extensions import TypedDict  # pydantic reads typing's own from Python 3.12 on

from corral.api.operation import Fault

Usd = Annotated[Any, WithJsonSchema({"type": "number", "minimum": 0})]
"""Exact decimal dollars: JSON text that was made from integers, never from a float."""


class WireUsage(TypedDict):
    """Tokens of a request, all choices together, and their cost."""

    prompt_tokens: int
    total_tokens: int
    completion_tokens: int
    estimated_cost: Usd


class TokenLogprob(TypedDict):
    """A token and its log probability."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: NotRequired[list["TokenLogprob"]]


class ChatLogprobs(TypedDict):
    """Log probabilities of a chat completion."""

    content: list[TokenLogprob]
    refusal: None


class LegacyLogprobs(TypedDict):
    """Log probabilities of a completion: four lists of the same length."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class WireMessage(TypedDict):
    """Generated message."""

    role: Literal["assistant"]
    content: str


class ChatChoice(TypedDict):
    """Choice of a chat completion."""

    index: int
    message: WireMessage
    logprobs: NotRequired[ChatLogprobs]
    finish_reason: Literal["stop", "length"]


class ChatCompletion(TypedDict):
    """Body of a chat completion."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: WireUsage


class CompletionChoice(TypedDict):
    """Choice of a completion."""

    index: int
    text: str
    logprobs: LegacyLogprobs | None
    finish_reason: Literal["stop", "length"]


class Completion(TypedDict):
    """Body of a completion."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: WireUsage


class ChatDelta(TypedDict):
    """New part of a message; empty in a choice's last chunk."""

    role: NotRequired[Literal["assistant"]]
    content: NotRequired[str]


class ChatChunkChoice(TypedDict):
    """Choice of a chunk."""

    index: int
    delta: ChatDelta
    logprobs: NotRequired[ChatLogprobs]
    finish_reason: Literal["stop", "length"] | None


class ChatChunk(TypedDict):
    """Chunk of a streamed chat completion."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChatChunkChoice]
    usage: NotRequired[WireUsage | None]


class CompletionChunkChoice(TypedDict):
    """Choice of a chunk."""

    index: int
    text: str
    logprobs: LegacyLogprobs | None
    finish_reason: Literal["stop", "length"] | None


class CompletionChunk(TypedDict):
    """Chunk of a streamed completion."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChunkChoice]
    usage: NotRequired[WireUsage | None]


class Pricing(TypedDict):
    """Prices in dollars per million tokens."""

    input_tokens: Usd
    output_tokens: Usd


class ModelMetadata(TypedDict):
    """Model metadata that DeepInfra's clients read."""

    description: str
    context_length: int
    max_tokens: int
    pricing: Pricing
    tags: list[str]


class ModelWeights(TypedDict):
    """Weights that answer for the model."""

    weights: str
    stands_in: bool
    state: str
    """State of the deployment: ``ready``, ``loading 40 %``, ``failed``."""


class Model(TypedDict):
    """Entry of the list of models."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    root: str
    parent: None
    metadata: ModelMetadata
    corral: ModelWeights


class ModelList(TypedDict):
    """List of models."""

    object: Literal["list"]
    data: list[Model]


class CostEstimate(TypedDict):
    """Cost estimate of a request; prices in dollars per million tokens, costs in dollars."""

    model: str
    prompt_tokens: int
    max_completion_tokens: int
    input_price: Usd
    output_price: Usd
    prompt_cost: Usd
    worst_case_cost: Usd
    price_version: str


class ErrorObject(TypedDict):
    """Error object."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(TypedDict):
    """Body of every error response except validation errors."""

    error: ErrorObject


class InvalidAnswer(ErrorAnswer):
    """Body of a validation error: each invalid field, and the error object that OpenAI's clients show."""

    detail: list[Fault]
