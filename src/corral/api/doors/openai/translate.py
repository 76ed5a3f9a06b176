"""Between this door's words and the core's. Pure: no IO, no clock, no HTTP requests or responses."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

from corral.api.body import BodyEncoded, BodyTooLarge
from corral.api.doors.openai.wire import ChatCompletion, ChatCompletionRequest, ChatMessage, ContentPart, WireUsage
from corral.api.problems import Problem
from corral.catalog.catalog import CatalogModel
from corral.core.errors import (
    CorralError,
    EngineFailed,
    EngineUnavailable,
    InvalidRequest,
    Overloaded,
    PromptTooLong,
    Unauthenticated,
    UnknownModel,
    Unsupported,
)
from corral.core.generation import (
    ChatPrompt,
    GenerationRequest,
    GenerationResult,
    Message,
    Role,
    Sampling,
    Stopping,
    Usage,
)

T = TypeVar("T")

_ROLES = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
}

HARMLESS: Mapping[str, Callable[[Any], bool]] = {
    "n": lambda value: value == 1,
    "tools": lambda value: not value,
    "tool_choice": lambda value: value in ("none", "auto"),
    "functions": lambda value: not value,
    "function_call": lambda value: value in ("none", "auto"),
    "response_format": lambda value: value == {"type": "text"},
    "logprobs": lambda value: value is False,
    "top_logprobs": lambda value: value == 0,
    "logit_bias": lambda value: not value,
    "modalities": lambda value: value == ["text"],
    "audio": lambda value: not value,
    "prediction": lambda value: not value,
    "reasoning": lambda value: not value,
    "reasoning_effort": lambda value: value == "none",
    "verbosity": lambda value: value == "medium",
    "web_search_options": lambda _: False,
    "chat_template_kwargs": lambda value: not value,
}
"""Fields that are not offered, with the values that ask for nothing and so are let through."""

HARMLESS_IN_MESSAGE: Mapping[str, Callable[[Any], bool]] = {
    "tool_calls": lambda value: not value,
    "function_call": lambda value: not value,
    "refusal": lambda value: not value,
    "audio": lambda value: not value,
}
"""The same for the fields of a message."""

IGNORED = frozenset(
    {
        "metadata",
        "store",
        "service_tier",
        "parallel_tool_calls",
        "prompt_cache_key",
        "safety_identifier",
        "user",
    }
)
"""Fields that change nothing in the answer, and are not kept."""

IGNORED_IN_MESSAGE = frozenset({"name", "tool_call_id"})
"""The same for the fields of a message: Llama 2 has no place for them."""


class ToolCallingUnsupported(Unsupported):
    """The request offers tools, which Llama 2 was not trained to call."""

    def __init__(self, model: str) -> None:
        super().__init__(f"Tool calling is not supported for model: {model}", param="tools")


def to_core(body: ChatCompletionRequest) -> GenerationRequest:
    """What *body* asks for.

    Raises:
        Unsupported: it asks by name for something that is not offered.
        InvalidRequest: its fields contradict each other.
    """
    _refuse_unsupported(body)
    return GenerationRequest(
        model=body.model,
        prompt=ChatPrompt(tuple(_message(message, index) for index, message in enumerate(body.messages))),
        sampling=_sampling(body),
        stopping=Stopping(max_tokens=_max_tokens(body), stop=tuple(body.stop or ())),
        seed=body.seed,
    )


def _refuse_unsupported(body: ChatCompletionRequest) -> None:
    if body.tools:
        raise ToolCallingUnsupported(body.model)
    for field, harmless in HARMLESS.items():
        value: object = getattr(body, field)
        if value is not None and not harmless(value):
            raise Unsupported(f"This value of '{field}' is not supported by this server.", param=field)


def _message(message: ChatMessage, index: int) -> Message:
    where = f"messages[{index}]"
    role = _ROLES.get(message.role)
    if role is None:
        raise Unsupported(f"Messages of role '{message.role}' are not supported for Llama 2.", param=f"{where}.role")
    for field, harmless in HARMLESS_IN_MESSAGE.items():
        value: object = getattr(message, field)
        if value is not None and not harmless(value):
            raise Unsupported(f"'{field}' in a message is not supported for Llama 2.", param=f"{where}.{field}")
    return Message(role=role, content=_content(message, role, f"{where}.content"))


def _content(message: ChatMessage, role: Role, where: str) -> str:
    if isinstance(message.content, str):
        return message.content
    if message.content is not None:
        return "".join(_text(part, f"{where}[{index}]") for index, part in enumerate(message.content))
    if role is Role.ASSISTANT:
        return ""
    raise InvalidRequest("The message has no content.", param=where)


def _text(part: ContentPart, where: str) -> str:
    if part.type != "text":
        raise Unsupported("Only content parts of type 'text' are supported.", param=where)
    if part.text is None:
        raise InvalidRequest("The content part has no text.", param=where)
    return part.text


def _sampling(body: ChatCompletionRequest) -> Sampling:
    # A min_p of 1 keeps what is as likely as the most likely token, and the core has it in [0, 1).
    only_best = body.min_p == 1
    return Sampling(
        temperature=_or(body.temperature, 1.0),
        top_p=_or(body.top_p, 1.0),
        top_k=1 if only_best else _or(body.top_k, 0),
        min_p=0.0 if only_best else _or(body.min_p, 0.0),
        repetition_penalty=_or(body.repetition_penalty, 1.0),
        presence_penalty=_or(body.presence_penalty, 0.0),
        frequency_penalty=_or(body.frequency_penalty, 0.0),
    )


def _max_tokens(body: ChatCompletionRequest) -> int | None:
    limit = body.max_completion_tokens if body.max_tokens is None else body.max_tokens
    if limit == 0:
        param = "max_completion_tokens" if body.max_tokens is None else "max_tokens"
        raise InvalidRequest(f"'{param}' of 0 leaves no room for an answer; leave it out for no limit.", param=param)
    return limit


def from_result(completion_id: str, created: int, model: str, result: GenerationResult) -> ChatCompletion:
    """A whole answer; *model* as the caller spelt it."""
    return {
        "id": completion_id,
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": result.text},
                "finish_reason": result.reason.value,
            }
        ],
        "usage": from_usage(result.usage),
    }


def from_usage(usage: Usage) -> WireUsage:
    """Token counts in this door's words."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "total_tokens": usage.total_tokens,
        "completion_tokens": usage.completion_tokens,
    }


def from_model(model: CatalogModel) -> dict[str, object]:
    """An entry of ``GET /v1/models``; ``metadata`` as DeepInfra has it, ``corral`` says what really answers."""
    return {
        "id": model.id,
        "object": "model",
        "created": model.created,
        "owned_by": model.owner,
        "root": model.id,
        "parent": None,
        "metadata": {
            "description": model.description,
            "context_length": model.context_tokens,
            "max_tokens": model.context_tokens,
            "tags": [],
        },
        "corral": {"weights": model.weights, "stands_in": model.stands_in},
    }


def weights_header(model: CatalogModel) -> dict[str, str]:
    """The header that says what really answers; percent-encoded where a directory's name does not fit a header."""
    return {"corral-weights": quote(model.weights, safe="/:+@ ")}


@dataclass(frozen=True, slots=True)
class _Row:
    status: int
    type: str
    code: str | None = None


_SERVER_ERROR = _Row(500, "server_error")

ERRORS: Mapping[type[CorralError], _Row] = {
    CorralError: _SERVER_ERROR,
    InvalidRequest: _Row(400, "invalid_request_error"),
    BodyEncoded: _Row(415, "invalid_request_error"),
    BodyTooLarge: _Row(413, "invalid_request_error"),
    PromptTooLong: _Row(400, "invalid_request_error", "context_length_exceeded"),
    Unsupported: _Row(400, "invalid_request_error", "unsupported_value"),
    ToolCallingUnsupported: _Row(405, "invalid_request_error"),
    UnknownModel: _Row(404, "invalid_request_error", "model_not_found"),
    Unauthenticated: _Row(401, "invalid_request_error", "invalid_api_key"),
    Overloaded: _Row(429, "rate_limit_error", "overloaded"),
    EngineUnavailable: _Row(503, "server_error", "engine_unavailable"),
    EngineFailed: _Row(500, "server_error", "engine_failed"),
}
"""How each error is answered; a class without a row is answered as its nearest base."""

_ENGINE_RETRY_AFTER_S = 2


def from_error(error: CorralError) -> Problem:
    """An error as OpenAI's error object."""
    row = next(ERRORS[kind] for kind in type(error).__mro__ if kind in ERRORS)
    return Problem(
        status=row.status,
        body={"error": {"message": str(error), "type": row.type, "param": _param(error), "code": row.code}},
        headers=_headers(error),
    )


def _param(error: CorralError) -> str | None:
    match error:
        case PromptTooLong():
            return error.param or "messages"
        case InvalidRequest():
            return error.param
        case UnknownModel():
            return "model"
        case _:
            return None


def _headers(error: CorralError) -> dict[str, str]:
    match error:
        case Unauthenticated():
            return {"www-authenticate": "Bearer"}
        case Overloaded():
            return {"retry-after": str(error.retry_after_s)}
        case EngineUnavailable():
            return {"retry-after": str(_ENGINE_RETRY_AFTER_S)}
        case EngineFailed():
            # OpenAI's clients try a 500 again on their own, and this run has been retried already.
            return {"x-should-retry": "false"}
        case _:
            return {}


def _or(value: T | None, default: T) -> T:
    return default if value is None else value
