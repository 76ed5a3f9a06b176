"""Request types.

Ranges are those DeepInfra publishes for its routes. ``null`` means the same as leaving a field out. JSON types are
taken as they are, no string for a number; a number without fraction may stand for an integer. Unknown fields are let
through unread. ``docs/api/openai.md`` says of each field here whether it is mapped, refused or ignored.

A list is given up at its first fault: a fault costs more memory than the two bytes that can cause it.
"""

from typing import Annotated, Literal, Self, TypeVar

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from corral.api.response_format import ResponseFormat
from corral.api.wire_fields import LISTED, WHOLE, Usd, Wire, within
from corral.core.ranges import OPENAI

MAX_MESSAGES = 2048
MAX_STOPS = 16
MAX_STOP_CHARS = 256
MAX_PROMPT_IDS = 2**18

T = TypeVar("T")


Listed = Annotated[list[T], Field(fail_fast=True)]
Stop = Annotated[str, Field(min_length=1, max_length=MAX_STOP_CHARS)]
Stops = Annotated[
    Listed[Stop],
    Field(max_length=MAX_STOPS),
    BeforeValidator(LISTED, json_schema_input_type=Stop | Annotated[list[Stop], Field(max_length=MAX_STOPS)]),
]
MaxTokens = Annotated[int, within(OPENAI["max_tokens"]), WHOLE]
TokenId = Annotated[int, within(OPENAI["token_id"])]
TokenIds = Annotated[Listed[TokenId], Field(min_length=1, max_length=MAX_PROMPT_IDS)]


class ContentPart(Wire):
    """Part of a message; only text is supported."""

    type: str
    text: str | None = None


class ChatMessage(Wire):
    """Chat message."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | Annotated[Listed[ContentPart], Field(max_length=MAX_MESSAGES)] | None = None
    name: object = None
    tool_calls: object = None
    tool_call_id: object = None
    function_call: object = None
    refusal: object = None
    audio: object = None


class StreamOptions(Wire):
    """Options of a streamed response."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class SharedRequest(Wire):
    """Fields that chat completions and completions share."""

    model: str = Field(min_length=1, max_length=256)

    temperature: Annotated[float, within(OPENAI["temperature"])] | None = None
    top_p: Annotated[float, within(OPENAI["top_p"])] | None = None
    top_k: Annotated[int, within(OPENAI["top_k"]), WHOLE] | None = None
    min_p: Annotated[float, within(OPENAI["min_p"])] | None = None
    presence_penalty: Annotated[float, within(OPENAI["presence_penalty"])] | None = None
    frequency_penalty: Annotated[float, within(OPENAI["frequency_penalty"])] | None = None
    repetition_penalty: Annotated[float, within(OPENAI["repetition_penalty"])] | None = None
    max_tokens: MaxTokens | None = None
    stop: Stops | None = None
    seed: Annotated[int, within(OPENAI["seed"]), WHOLE] | None = None
    n: Annotated[int, within(OPENAI["n"]), WHOLE] | None = None
    response_format: ResponseFormat | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_cost: Usd | None = None

    logit_bias: object = None

    metadata: dict[str, object] | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None
    user: str | None = None


class ChatCompletionRequest(SharedRequest):
    """Body of ``POST /v1/chat/completions``."""

    messages: Listed[ChatMessage] = Field(min_length=1, max_length=MAX_MESSAGES)
    max_completion_tokens: MaxTokens | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, within(OPENAI["logprobs"]), WHOLE] | None = None

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

    store: bool | None = None
    parallel_tool_calls: bool | None = None

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
    logprobs: Annotated[int, within(OPENAI["logprobs"]), WHOLE] | None = None

    best_of: Annotated[int, within(OPENAI["best_of"]), WHOLE] | None = None
    suffix: str | None = None
    stop_token_ids: object = None
    return_tokens_as_token_ids: object = None
    data: object = None
