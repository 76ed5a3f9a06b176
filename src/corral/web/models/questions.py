"""Translate the playground's form into the core's request, through the Replicate door."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from corral.api.doors.replicate.faults import InvalidInput, ModelRefusal
from corral.api.doors.replicate.input_table import INPUTS
from corral.api.doors.replicate.inputs import read_input
from corral.api.doors.replicate.translate import to_core
from corral.catalog.model import CatalogModel
from corral.core.errors import CorralError, InvalidRequest, PromptTooLong
from corral.core.generation import ChatPrompt, GenerationRequest, Message
from corral.web.forms import Form, first
from corral.web.models.form import read_inputs
from corral.web.models.turns import MESSAGES, as_data, conversation, read_turns

PROMPT: Final = "prompt"
SYSTEM_PROMPT: Final = "system_prompt"
TEMPLATE: Final = "prompt_template"
WHOLE_FORM: Final = ""
"""Key for errors of no particular field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Parsed form."""

    inputs: Mapping[str, Any]
    """Inputs by name, without defaults; the prompt is the next message of a chat."""
    chat: bool
    turns: tuple[Message, ...] = ()
    """Earlier messages of a chat."""

    @property
    def text_chars(self) -> int:
        """Characters of all texts."""
        said = sum(len(turn.content) for turn in self.turns)
        return said + sum(len(value) for value in self.inputs.values() if isinstance(value, str))


def read_question(form: Form, model: CatalogModel) -> Question:
    """Parse the form for *model*.

    Raises:
        InvalidRequest: its conversation cannot be read.
    """
    chat = first(form, "mode") == "chat"
    inputs = read_inputs(form, INPUTS.for_model(model))
    return Question(inputs=inputs, chat=chat, turns=read_turns(first(form, "turns")) if chat else ())


def to_request(question: Question, model: CatalogModel) -> GenerationRequest:
    """Build the core's request.

    Raises:
        InvalidInput: fields are missing or out of range.
        ModelRefusal: they cannot go together.
    """
    fields = INPUTS.for_model(model)
    values = read_input(dict(question.inputs), fields)
    template = default_of(model, TEMPLATE)
    if not question.chat:
        return to_core(model.id, values, default_template=template)
    # Messages are data: no text in them may become a control token, unlike in a template.
    plain = to_core(model.id, {**values, TEMPLATE: template}, default_template=template)
    said = conversation(question.turns, system_prompt=values[SYSTEM_PROMPT] or "", prompt=values[PROMPT])
    return replace(plain, prompt=ChatPrompt(said))


def shown_input(question: Question, request: GenerationRequest) -> dict[str, Any]:
    """Input to store with the prediction."""
    match request.prompt:
        case ChatPrompt(messages=messages):
            rest = {name: value for name, value in question.inputs.items() if name not in (PROMPT, SYSTEM_PROMPT)}
            return {MESSAGES: as_data(messages), **rest}
        case _:
            return dict(question.inputs)


def question_of(shown: Mapping[str, Any], model: CatalogModel) -> Question:
    """Restore the form from a prediction's stored input."""
    if MESSAGES not in shown:
        return Question(inputs=dict(shown), chat=False)
    said = [Message(role=each["role"], content=each["content"]) for each in shown[MESSAGES]]
    opening, spoken = [each for each in said if each.role == "system"], [each for each in said if each.role != "system"]
    inputs = {name: value for name, value in shown.items() if name != MESSAGES}
    system_prompt = opening[0].content if opening else ""
    if system_prompt != default_of(model, SYSTEM_PROMPT):
        inputs[SYSTEM_PROMPT] = system_prompt
    return Question(inputs={PROMPT: spoken[-1].content, **inputs}, chat=True, turns=tuple(spoken[:-1]))


def faults_of(error: CorralError | ModelRefusal) -> dict[str, str]:
    """Error messages by field; under ``WHOLE_FORM`` those of no field."""
    match error:
        case InvalidInput():
            found: dict[str, str] = {}
            for fault in error.faults:
                name = fault.description.partition(" ")[0] if fault.type == "required" else fault.field
                found.setdefault(name.removeprefix("input.").removeprefix("input"), fault.description)
            return found
        case ModelRefusal():
            return {error.field: str(error)}
        case PromptTooLong():
            return {PROMPT: str(error)}
        case InvalidRequest():
            return {error.param if error.param in (PROMPT, "max_tokens") else WHOLE_FORM: str(error)}
        case _:
            return {WHOLE_FORM: str(error)}


def default_of(model: CatalogModel, name: str) -> Any:
    """Default of one input of *model*."""
    return next(field.default for field in INPUTS.for_model(model) if field.name == name)
