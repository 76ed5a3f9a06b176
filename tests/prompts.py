"""Encoders of prompts for tests."""

from corral.core.generation import Message, Role
from corral.text.chat.encoder import PromptEncoder
from corral.text.chat.format import chat_formats
from corral.text.chat.recognition import Recognised
from corral.text.tokenizer import Tokenizer


def encoder(tokenizer: Tokenizer, format_name: str = "llama-2") -> PromptEncoder:
    """An encoder of chats in one of Corral's formats, with the system text that the format has by default."""
    chat_format = chat_formats()[format_name]
    chat = Recognised(format=chat_format, default_system=chat_format.system.default, evidence="The test says so.")
    return PromptEncoder(tokenizer, chat)


def system(content: str) -> Message:
    """A system message."""
    return Message(role=Role.SYSTEM, content=content)


def user(content: str) -> Message:
    """A user's message."""
    return Message(role=Role.USER, content=content)


def assistant(content: str) -> Message:
    """An answer."""
    return Message(role=Role.ASSISTANT, content=content)
