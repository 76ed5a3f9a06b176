"""Recognise the chat format of a checkpoint."""

from dataclasses import dataclass

from corral.text.chat.format import ChatFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognised:
    """The chat format of a deployment, and why it has it."""

    format: ChatFormat
    default_system: str | None
    """System text of conversations without one; None writes none."""
    evidence: str
    """What decided, as a sentence for operators."""
