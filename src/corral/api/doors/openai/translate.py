"""Translate chat completion and completion requests into the core's request."""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from corral.api.doors.openai.errors import ToolCallingUnsupported
from corral.api.doors.openai.wire import (
    ChatCompletionRequest,
    ChatMessage,
    CompletionRequest,
    ContentPart,
    SharedRequest,
)
from corral.api.response_format import to_constraint
from corral.core.errors import InvalidRequest, Unsupported
from corral.core.generation import (
    ChatPrompt,
    GenerationRequest,
    Message,
    RawPrompt,
    Role,
    Sampling,
    Stopping,
    TokenPrompt,
)

T = TypeVar("T")

COMPLETION_MAX_TOKENS: Final = 512
"""Default of ``max_tokens`` for ``/completions``; DeepInfra's value."""

_ROLES = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
}

Harmless = Mapping[str, Callable[[Any], bool]]

HARMLESS: Harmless = {
    "tools": lambda value: not value,
    "tool_choice": lambda value: value in ("none", "auto"),
    "functions": lambda value: not value,
    "function_call": lambda value: value in ("none", "auto"),
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
"""Unsupported fields of a chat, each with a test for values that have no effect and are accepted."""

HARMLESS_IN_MESSAGE: Harmless = {
    "tool_calls": lambda value: not value,
    "function_call": lambda value: not value,
    "refusal": lambda value: not value,
    "audio": lambda value: not value,
}
"""The same for the fields of a message."""

HARMLESS_IN_COMPLETION: Harmless = {
    "logit_bias": lambda value: not value,
    "best_of": lambda value: value == 1,
    "suffix": lambda value: not value,
    "stop_token_ids": lambda value: not value,
    "return_tokens_as_token_ids": lambda value: value is False,
    "data": lambda value: not value,
}
"""The same for the fields of a completion; a ``best_of`` equal to ``n`` is accepted too."""

_IGNORED_BY_BOTH = frozenset({"metadata", "service_tier", "prompt_cache_key", "safety_identifier", "user"})

IGNORED = _IGNORED_BY_BOTH | {"store", "parallel_tool_calls"}
"""Fields of a chat that do not change the answer."""

IGNORED_IN_MESSAGE = frozenset({"name", "tool_call_id"})
"""The same for the fields of a message: the Llama 2 format has no place for them."""

IGNORED_IN_COMPLETION = _IGNORED_BY_BOTH
"""The same for the fields of a completion."""


def chat_to_core(body: ChatCompletionRequest, *, model: str) -> GenerationRequest:
    """Build the core's request for a chat; *model* is the catalog's id of the model that ``body.model`` names.

    Raises:
        Unsupported: it asks by name for something that is not offered.
        InvalidRequest: its fields contradict each other.
        ValidationError: a limit of 0 tokens.
    """
    if body.tools:
        raise ToolCallingUnsupported(body.model)
    _refuse_unsupported(body, HARMLESS)
    if body.top_logprobs and not body.logprobs:
        raise InvalidRequest("'top_logprobs' needs 'logprobs' to be true.", param="top_logprobs")
    limit = body.max_completion_tokens if body.max_tokens is None else body.max_tokens
    if limit == 0:
        raise _no_room("max_completion_tokens" if body.max_tokens is None else "max_tokens")
    prompt = ChatPrompt(tuple(_message(message, index) for index, message in enumerate(body.messages)))
    return _request(
        body,
        prompt,
        model=model,
        max_tokens=limit,
        pieces=body.logprobs is True,
        top_logprobs=_or(body.top_logprobs, 0),
    )


def completion_to_core(body: CompletionRequest, *, model: str) -> GenerationRequest:
    """Build the core's request for a completion; raises as ``chat_to_core`` does."""
    harmless = dict(HARMLESS_IN_COMPLETION)
    if body.best_of == _or(body.n, 1):
        del harmless["best_of"]
    _refuse_unsupported(body, harmless)
    echo = body.echo is True
    if body.max_tokens == 0 and not echo:
        raise _no_room("max_tokens", echo=True)
    return _request(
        body,
        _prompt(body),
        model=model,
        max_tokens=_or(body.max_tokens, COMPLETION_MAX_TOKENS),
        echo=echo,
        pieces=body.logprobs is not None,
        top_logprobs=_or(body.logprobs, 0),
    )


def _request(
    body: SharedRequest,
    prompt: ChatPrompt | RawPrompt | TokenPrompt,
    *,
    model: str,
    max_tokens: int | None,
    pieces: bool,
    top_logprobs: int,
    echo: bool = False,
) -> GenerationRequest:
    return GenerationRequest(
        model=model,
        prompt=prompt,
        sampling=_sampling(body),
        stopping=Stopping(max_tokens=max_tokens, stop=tuple(body.stop or ())),
        seed=body.seed,
        choices=_or(body.n, 1),
        constraint=to_constraint(body.response_format),
        echo=echo,
        pieces=pieces,
        top_logprobs=top_logprobs,
    )


def _no_room(field: str, *, echo: bool = False) -> ValidationError:
    """Validation error for a limit of 0, in the format of any number out of range."""
    unless = ", or 0 together with echo" if echo else ""
    fault = PydanticCustomError(
        "greater_than_equal", "Input should be greater than or equal to 1{unless}", {"unless": unless}
    )
    return ValidationError.from_exception_data(field, [InitErrorDetails(type=fault, loc=(field,), input=0)])


def _refuse_unsupported(body: SharedRequest, rules: Harmless) -> None:
    for field, harmless in rules.items():
        value: object = getattr(body, field)
        if value is not None and not harmless(value):
            raise Unsupported(f"This value of '{field}' is not supported by this server.", param=field)


def _prompt(body: CompletionRequest) -> RawPrompt | TokenPrompt:
    match body.prompt:
        case str(text) | [str(text)]:
            return RawPrompt(text)
        case [[*ids]]:
            return TokenPrompt(tuple(ids))
        case [int(), *_] as ids:
            return TokenPrompt(tuple(ids))
        case _:
            raise Unsupported("Only one prompt is answered at a time; 'prompt' holds several.", param="prompt")


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


def _sampling(body: SharedRequest) -> Sampling:
    # A min_p of 1 keeps only the most likely token; the core's range is [0, 1).
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


def _or(value: T | None, default: T) -> T:
    return default if value is None else value
