"""Conversation of the playground: earlier messages and the next one."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import msgspec

from corral.core.errors import InvalidRequest
from corral.core.generation import Message, Role

MAX_TURNS: Final = 256
MESSAGES: Final = "messages"
"""Name of the input that holds a conversation."""


class _Turn(msgspec.Struct, forbid_unknown_fields=True):
    role: Role
    content: str


_Turns = Annotated[list[_Turn], msgspec.Meta(max_length=MAX_TURNS)]


def read_turns(text: str) -> tuple[Message, ...]:
    """Parse the form's JSON field; empty if the field is.

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
    """All messages, the next one last."""
    opening = [Message(role=Role.SYSTEM, content=system_prompt)] if system_prompt else []
    return (*opening, *turns, Message(role=Role.USER, content=prompt))


def as_data(messages: Sequence[Message]) -> list[dict[str, str]]:
    """Messages as plain data."""
    return [{"role": str(message.role), "content": message.content} for message in messages]


def turns_of(inputs: Mapping[str, Any]) -> list[dict[str, str]]:
    """Earlier messages of a stored input, without system message and last question."""
    return [turn for turn in inputs.get(MESSAGES, ()) if turn["role"] != Role.SYSTEM][:-1]
