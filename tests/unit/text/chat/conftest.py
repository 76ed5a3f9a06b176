"""Vocabularies for the tests of chat formats."""

from collections.abc import Callable

import pytest

from corral.text.chat.format import ChatFormat, chat_formats
from corral.text.chat.tool_format import tool_formats
from corral.text.tokenizer import Tokenizer
from tests.unit.text.chat.byte_level import byte_level_tokenizer


def made_for(chat_format: ChatFormat, *, bos: bool) -> Tokenizer:
    """A byte-level tokenizer with the control tokens of a format."""
    control = ["<|begin|>", *dict.fromkeys((*chat_format.control, *chat_format.end)), "<|other|>"]
    return byte_level_tokenizer(control, bos="<|begin|>" if bos else None, ends=chat_format.end[:1])


@pytest.fixture(scope="session")
def vocabularies(demo: Tokenizer) -> Callable[[ChatFormat], list[Tokenizer]]:
    """Get the tokenizers that fit a format: the demo's, and byte-level ones with and without a BOS."""
    made = {
        name: [made_for(chat_format, bos=True), made_for(chat_format, bos=False)]
        for name, chat_format in chat_formats().items()
    }

    def fitting(chat_format: ChatFormat) -> list[Tokenizer]:
        every: list[Tokenizer] = [demo, *made[chat_format.name]]
        return [tokenizer for tokenizer in every if chat_format.misfit(tokenizer) is None]

    return fitting


@pytest.fixture(scope="session")
def tool_vocabularies() -> Callable[[ChatFormat], list[Tokenizer]]:
    """Get byte-level tokenizers that fit a format, with and without the control tokens of its convention for tools."""
    made: dict[str, list[Tokenizer]] = {}
    for name, chat_format in chat_formats().items():
        convention = tool_formats()[chat_format.tools]
        tokens = dict.fromkeys((*chat_format.control, *chat_format.end, *convention.control, *convention.tokens))
        made[name] = [byte_level_tokenizer(list(tokens)), made_for(chat_format, bos=False)]
    return lambda chat_format: made[chat_format.name]
