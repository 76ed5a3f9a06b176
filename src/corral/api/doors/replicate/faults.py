"""Validation errors by field, with the texts of Replicate's own validation."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from typing import Final

from corral.core.errors import CorralError, InvalidRequest, PromptTooLong

MAX_FAULTS: Final = 16
"""Most faults in one response: reporting a fault takes more bytes than causing it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One invalid field."""

    type: str
    """``required``, ``invalid_type``, ``number_gte``, …"""
    field: str
    """Dotted path from the body's root, which is the empty string."""
    description: str


class InvalidInput(InvalidRequest):
    """The body has missing, unknown or invalid fields; ``faults`` lists each."""

    def __init__(self, message: str, *, faults: Iterable[Fault] = ()) -> None:
        super().__init__(message)
        self.faults = tuple(faults)


class InvalidVersion(InvalidRequest):
    """``version`` names nothing that is served."""


class NotOffered(CorralError):
    """A route of Replicate's API that this server does not support."""


class NotHere(CorralError):
    """The collection, file or stream does not exist."""


class ModelErrorCode(Enum):
    """Codes of the errors that the code of Replicate's Llama 2 models raises."""

    PROMPT_REQUIRED = "E1001 PromptRequired"
    PROMPT_TOO_LONG = "E1002 PromptTooLong"
    BAD_PROMPT_TEMPLATE = "E1003 BadPromptTemplate"
    PROMPT_TEMPLATE_ERROR = "E1004 PromptTemplateError"
    INVALID_MIN_TOKENS = "E1101 InvalidArgumentMinTokens"
    INVALID_MAX_TOKENS = "E1102 InvalidArgumentMaxTokens"


class ModelRefusal(Exception):
    """The input passes validation, but the model cannot run it; the prediction fails with this as its ``error``."""

    def __init__(self, code: ModelErrorCode, *, field: str, message: str) -> None:
        """*field* is the name of the input that must change."""
        super().__init__(f"{code.value}: {message}")
        self.code = code
        self.field = field


def too_long(error: PromptTooLong) -> ModelRefusal:
    """Convert a prompt beyond the model's context into the model's own error."""
    message = f"Prompt length ({error.prompt_length}) exceeds maximum input length ({error.context_tokens - 1})"
    return ModelRefusal(ModelErrorCode.PROMPT_TOO_LONG, field="prompt", message=message)


def invalid(faults: Iterable[Fault]) -> InvalidInput:
    """Build the error for a body with *faults*; the message has a line for each of the first ``MAX_FAULTS``."""
    found = tuple(islice(faults, MAX_FAULTS))
    lines = (f"- {fault.field + ': ' if fault.field else ''}{fault.description}\n" for fault in found)
    return InvalidInput("".join(lines), faults=found)
