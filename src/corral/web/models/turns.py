"""A conversation as the page keeps it between runs: what was said so far, and the next message. Pure."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import msgspec

from corral.core.errors import InvalidRequest
from corral.core.generation import Message, Role

MAX_TURNS: Final = 256
MESSAGES: Final = "messages"
"""The input of a conversation, beside those of the dialect."""


class _Turn(msgspec.Struct, forbid_unknown_fields=True):
    role: Role
    content: str


_Turns = Annotated[list[_Turn], msgspec.Meta(max_length=MAX_TURNS)]


def read_turns(text: str) -> tuple[Message, ...]:
    """The turns in a form's field, from JSON; none if it is empty.

    Raises:
        InvalidRequest: it is no list of turns by user and assistant in turn.
    """
    try:
        turns: list[_Turn] = msgspec.json.decode(text or "[]", type=_Turns)
    except msgspec.MsgspecError:
        raise InvalidRequest("The conversation cannot be read. Load the page again.") from None
    expected = (Role.USER, Role.ASSISTANT)
    if len(turns) % 2 or any(turn.role is not expected[index % 2] for index, turn in enumerate(turns)):
        raise InvalidRequest("A conversation is made of questions and answers in turn. Load the page again.")
    return tuple(Message(role=turn.role, content=turn.content) for turn in turns)


def conversation(turns: Sequence[Message], *, system_prompt: str, prompt: str) -> tuple[Message, ...]:
    """All that is said, the next message last."""
    opening = [Message(role=Role.SYSTEM, content=system_prompt)] if system_prompt else []
    return (*opening, *turns, Message(role=Role.USER, content=prompt))


def as_data(messages: Sequence[Message]) -> list[dict[str, str]]:
    """Messages as plain data, to be shown and stored."""
    return [{"role": str(message.role), "content": message.content} for message in messages]


def turns_of(inputs: Mapping[str, Any]) -> list[dict[str, str]]:
    """The turns of a prediction's input, without its system message and its last question."""
    return [turn for turn in inputs.get(MESSAGES, ()) if turn["role"] != Role.SYSTEM][:-1]
