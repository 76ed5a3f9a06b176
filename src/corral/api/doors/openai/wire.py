"""What this door reads, as JSON. Knows nothing of what the values are for: see ``translate``.

Ranges are those DeepInfra publishes for its routes. ``null`` means the same as leaving a field out. JSON types are
taken as they are, no string for a number; a number without fraction may stand for an integer. Unknown fields are let
through unread. ``docs/api/openai.md`` says of each field here whether it is mapped, refused or ignored.

A list is given up at its first fault: a fault costs more memory than the two bytes that can cause it.
"""

from decimal import Decimal
from typing import Annotated, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from corral.api.response_format import ResponseFormat
from corral.api.terms import MAX_USD, USD_PATTERN, usd_amount

MAX_MESSAGES = 2048
MAX_STOPS = 16
MAX_STOP_CHARS = 256
MAX_PROMPT_IDS = 2**18

T = TypeVar("T")


def _whole(value: object) -> object:
    """1.0 as 1: JSON has one kind of number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _listed(value: object) -> object:
    """One string as a list of one."""
    return [value] if isinstance(value, str) else value


def _usd(value: object) -> Decimal:
    amount = usd_amount(value)
    if amount is None:
        raise PydanticCustomError("usd", "Input should be an amount in dollars, as a number or as a decimal string")
    return amount


_Whole = BeforeValidator(_whole)
Listed = Annotated[list[T], Field(fail_fast=True)]
Stop = Annotated[str, Field(min_length=1, max_length=MAX_STOP_CHARS)]
Stops = Annotated[
    Listed[Stop],
    Field(max_length=MAX_STOPS),
    BeforeValidator(_listed, json_schema_input_type=Stop | Annotated[list[Stop], Field(max_length=MAX_STOPS)]),
]
MaxTokens = Annotated[int, Field(ge=0, le=1_000_000), _Whole]
Penalty = Annotated[float, Field(ge=-2, le=2)]
TokenId = Annotated[int, Field(ge=0, lt=2**31)]
TokenIds = Annotated[Listed[TokenId], Field(min_length=1, max_length=MAX_PROMPT_IDS)]
Usd = Annotated[
    Decimal,
    PlainValidator(_usd),
    WithJsonSchema(
        {"anyOf": [{"type": "number", "minimum": 0, "maximum": MAX_USD}, {"type": "string", "pattern": USD_PATTERN}]}
    ),
]


class _Wire(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, allow_inf_nan=False)


class ContentPart(_Wire):
    """A piece of a message; only text is offered."""

    type: str
    text: str | None = None


class ChatMessage(_Wire):
    """One turn."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | Annotated[Listed[ContentPart], Field(max_length=MAX_MESSAGES)] | None = None
    name: object = None
    tool_calls: object = None
    tool_call_id: object = None
    function_call: object = None
    refusal: object = None
    audio: object = None


class StreamOptions(_Wire):
    """What a stream says beside text."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class SharedRequest(_Wire):
    """What both routes read."""

    model: str = Field(min_length=1, max_length=256)

    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    top_k: Annotated[int, Field(ge=0, lt=1000), _Whole] | None = None
    min_p: float | None = Field(None, ge=0, le=1)
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: float | None = Field(None, ge=0.01, le=5)
    max_tokens: MaxTokens | None = None
    stop: Stops | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**64), _Whole] | None = None
    n: Annotated[int, Field(ge=1, le=4), _Whole] | None = None
    response_format: ResponseFormat | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_cost: Usd | None = None

    logit_bias: object = None

    metadata: object = None
    service_tier: object = None
    prompt_cache_key: object = None
    safety_identifier: object = None
    user: object = None


class ChatCompletionRequest(SharedRequest):
    """Body of ``POST /v1/chat/completions``."""

    messages: Listed[ChatMessage] = Field(min_length=1, max_length=MAX_MESSAGES)
    max_completion_tokens: MaxTokens | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20), _Whole] | None = None

    tools: list[object] | None = None
    tool_choice: object = None
    functions: object = None
    function_call: object = None
    modalities: object = None
    audio: object = None
    prediction: object = None
    reasoning: object = None
    reasoning_effort: object = None
    verbosity: object = None
    web_search_options: object = None
    chat_template_kwargs: object = None

    store: object = None
    parallel_tool_calls: object = None

    @model_validator(mode="after")
    def _one_limit(self) -> Self:
        limits = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(limits) > 1:
            raise PydanticCustomError("contradiction", "max_tokens and max_completion_tokens must not differ")
        return self


class CompletionRequest(SharedRequest):
    """Body of ``POST /v1/completions``."""

    prompt: (
        str
        | TokenIds
        | Annotated[Listed[str], Field(min_length=1, max_length=MAX_MESSAGES)]
        | Annotated[Listed[TokenIds], Field(min_length=1, max_length=MAX_MESSAGES)]
    )
    echo: bool | None = None
    logprobs: Annotated[int, Field(ge=0, le=20), _Whole] | None = None

    best_of: Annotated[int, Field(ge=1, le=20), _Whole] | None = None
    suffix: str | None = None
    stop_token_ids: object = None
    return_tokens_as_token_ids: object = None
    data: object = None
