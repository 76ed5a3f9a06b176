"""Translate one question into the body of each API, for the code snippets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from corral.api.doors.replicate.input_table import INPUTS
from corral.api.doors.replicate.inputs import read_input
from corral.api.doors.replicate.translate import formatted
from corral.catalog.model import CatalogModel
from corral.core.generation import ChatPrompt, GenerationRequest, Message, RawPrompt, Role, Sampling, Stopping
from corral.core.llama2_prompts import escape_content
from corral.web.models.questions import PROMPT, SYSTEM_PROMPT, TEMPLATE, Question, default_of
from corral.web.models.turns import as_data, conversation

_OPENAI_MOST: Final[Mapping[str, float]] = {"temperature": 2, "top_k": 999}


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """Request body for one API."""

    values: Mapping[str, Any]
    left_out: tuple[str, ...] = ()
    """Inputs that the API does not have."""


def replicate_body(question: Question) -> Body:
    """Body for Replicate: the inputs; a conversation is written into the prompt with instruction tags.

    What a chat holds is content, so markers and control tokens in it are spelled with spaces.
    """
    if not question.chat:
        return Body(values=question.inputs)
    texts = {name: escape_content(question.inputs[name]) for name in (PROMPT, SYSTEM_PROMPT) if name in question.inputs}
    if question.turns:
        texts[PROMPT] = _tagged(question.turns, texts.get(PROMPT, ""))
    return Body(values={**question.inputs, **texts})


def openai_body(question: Question, model: CatalogModel, request: GenerationRequest) -> Body:
    """Body for OpenAI: a chat completion, or a completion if the prompt is not a chat."""
    match _said(question, model):
        case None:
            prompt: dict[str, Any] = {"prompt": raw_text(question, model, request)}
        case messages:
            prompt = {"messages": as_data(messages)}
    sampling, stopping = request.sampling, request.stopping
    values: dict[str, Any] = {"model": model.id, **prompt, "max_tokens": stopping.max_tokens, **_changed(sampling)}
    if stopping.stop:
        values["stop"] = list(stopping.stop)
    if request.seed is not None:
        values["seed"] = request.seed
    beyond = [name for name, most in _OPENAI_MOST.items() if values.get(name, 0) > most]
    left_out = [*beyond, *_min_tokens(stopping)]
    return Body(values={name: value for name, value in values.items() if name not in beyond}, left_out=tuple(left_out))


def deepinfra_body(question: Question, model: CatalogModel, request: GenerationRequest) -> Body:
    """Body for DeepInfra: the raw prompt and every setting that differs from its defaults."""
    sampling, stopping = request.sampling, request.stopping
    values: dict[str, Any] = {
        "input": raw_text(question, model, request),
        "max_new_tokens": stopping.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "repetition_penalty": sampling.repetition_penalty,
        **_changed(sampling),
    }
    if stopping.stop:
        values["stop"] = list(stopping.stop)
    if request.seed is not None:
        values["seed"] = request.seed
    return Body(values=values, left_out=_min_tokens(stopping))


def raw_text(question: Question, model: CatalogModel, request: GenerationRequest) -> str:
    """Prompt as the model reads it, control tokens spelled out."""
    match request.prompt:
        case RawPrompt(text=text):
            return text
        case ChatPrompt():
            inputs = replicate_body(question).values
            values = read_input(dict(inputs), INPUTS.for_model(model))
            return formatted(values, default_template=values[TEMPLATE])
        case _:
            raise TypeError("the page asks with text only")


def _said(question: Question, model: CatalogModel) -> tuple[Message, ...] | None:
    """Messages of the equivalent chat; None if the prompt would differ."""
    system_prompt = question.inputs.get(SYSTEM_PROMPT, default_of(model, SYSTEM_PROMPT))
    prompt = question.inputs.get(PROMPT, "")
    if question.chat:
        return conversation(question.turns, system_prompt=system_prompt, prompt=prompt)
    has_power = any(escape_content(text) != text for text in (prompt, system_prompt))
    if TEMPLATE in question.inputs or not system_prompt or has_power or prompt != prompt.strip():
        return None
    return conversation((), system_prompt=system_prompt, prompt=prompt)


def _changed(sampling: Sampling) -> dict[str, float]:
    """Sampling settings that are on, by the names that OpenAI and DeepInfra share."""
    off = Sampling()
    names = ("temperature", "top_p", "top_k", "presence_penalty", "frequency_penalty", "repetition_penalty")
    return {name: getattr(sampling, name) for name in names if getattr(sampling, name) != getattr(off, name)}


def _min_tokens(stopping: Stopping) -> tuple[str, ...]:
    return ("min_tokens",) if stopping.min_tokens else ()


def _tagged(turns: Sequence[Message], prompt: str) -> str:
    said = [(turn.role, escape_content(turn.content)) for turn in turns]
    told = "".join(f"[INST] {text} [/INST] " if role is Role.USER else f"{text} " for role, text in said)
    return f"{told}[INST] {prompt} [/INST]"
