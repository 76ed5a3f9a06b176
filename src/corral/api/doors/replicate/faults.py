"""What is wrong with a request, field by field, in the words of Replicate's own validation. Values only."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from typing import Final

from corral.core.errors import CorralError, InvalidRequest, PromptTooLong

MAX_FAULTS: Final = 16
"""Told at once: a fault takes more bytes to tell than to cause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One field and what is wrong with it."""

    type: str
    """``required``, ``invalid_type``, ``number_gte``, …"""
    field: str
    """Dotted path from the body's root, which is the empty string."""
    description: str


class InvalidInput(InvalidRequest):
    """Fields of the body are missing, unknown, of the wrong type or out of range; ``faults`` has each."""

    def __init__(self, message: str, *, faults: Iterable[Fault] = ()) -> None:
        super().__init__(message)
        self.faults = tuple(faults)


class InvalidVersion(InvalidRequest):
    """The body's ``version`` names nothing that is served."""


class NotOffered(CorralError):
    """A part of Replicate's API that this server has nothing behind."""


class NotHere(CorralError):
    """There is nothing at this address: a collection, file or stream that nobody knows."""


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
    """The refusal of a prompt that the model's context does not hold."""
    message = f"Prompt length ({error.prompt_length}) exceeds maximum input length ({error.context_tokens - 1})"
    return ModelRefusal(ModelErrorCode.PROMPT_TOO_LONG, field="prompt", message=message)


def invalid(faults: Iterable[Fault]) -> InvalidInput:
    """The refusal of a body with *faults*, of which each of the first ``MAX_FAULTS`` has a line in the message."""
    found = tuple(islice(faults, MAX_FAULTS))
    lines = (f"- {fault.field + ': ' if fault.field else ''}{fault.description}\n" for fault in found)
    return InvalidInput("".join(lines), faults=found)
