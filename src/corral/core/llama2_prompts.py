"""Read and escape prompts that callers write in Llama 2's chat format.

::

    <s>[INST] <<SYS>>
    system
    <</SYS>>

    Hi! [/INST] Hello! How are you? </s><s>[INST] I'm great, thanks for asking. [/INST]

The raw prompts of Replicate's and DeepInfra's APIs are written so. ``<s>``, ``</s>`` and the white space around the
markers may be missing.
"""

import re
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from corral.core.generation import Message, Role
from corral.core.markers import Markers

MARKERS: Final = (("[", "INST", "]"), ("[", "/", "INST", "]"), ("<<", "SYS", ">>"), ("<<", "/", "SYS", ">>"))
"""Parts of the markers, as ``Markers`` takes them."""
_SYSTEM, _SYSTEM_END = "<<SYS>>", "<</SYS>>"
_TAG: Final = re.compile(r"(\[/?INST\]|</?s>)")
"""Alternatives of fixed length: splitting takes linear time."""
_CONTROL_TOKEN: Final = re.compile("<(/?)s>")
_MARKERS: Final = Markers(MARKERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Llama2Prompts:
    """How a deployment of another chat format reads raw prompts that are written in Llama 2's."""

    read: Literal["auto", "always", "never"] = "auto"
    """Auto: for models that are known to be prompted so, which it stands in for or is named as."""
    refuses_others: bool = False
    """Whether a prompt that is not in that format is refused; else it is used as it is."""


class Turn(NamedTuple):
    """A question and its answer, without white space around them."""

    user: str
    """With the system block, in the first turn of a prompt that has one."""
    answer: str
    """Empty if there is none."""
    closed: bool
    """Whether ``</s>`` follows the answer."""


def split_turns(prompt: str) -> list[Turn]:
    """Split a prompt into turns; empty if it is not a list of turns.

    A turn is ``[<s>] [INST] user [/INST] answer [</s>]``; what is in brackets here may be missing, and white space may
    stand anywhere between.
    """
    parts = _TAG.split(prompt)
    texts, tags = [text.strip() for text in parts[::2]], parts[1::2]
    turns: list[Turn] = []
    at = 0  # texts[at] stands before tags[at]
    while at < len(tags):
        if texts[at]:
            return []
        if tags[at] == "<s>" and not texts[at + 1]:
            at += 1
        if tags[at : at + 2] != ["[INST]", "[/INST]"]:
            return []
        closed = tags[at + 2 : at + 3] == ["</s>"]
        turns.append(Turn(texts[at + 1], texts[at + 2], closed))
        texts[at + 2] = ""  # the answer is read
        at += 3 if closed else 2
    return [] if texts[-1] else turns


def parse_llama2_prompt(prompt: str) -> tuple[Message, ...] | None:
    """Parse a prompt to the messages that Llama 2's chat format renders to it; None if it is not such a prompt.

    The system block stands at the start of the first question only, and the last answer must not be closed: after
    ``</s>`` there is nothing to answer. An answer at the end is left open, to be continued.
    """
    turns = split_turns(prompt)
    if not turns or turns[-1].closed:
        return None
    messages: list[Message] = []
    for user, answer, _ in turns:
        question = user
        if not messages and user.startswith(_SYSTEM):
            system, found, question = user.removeprefix(_SYSTEM).partition(_SYSTEM_END)
            if not found or _SYSTEM in system:
                return None
            messages.append(Message(role=Role.SYSTEM, content=system.strip()))
        if any(marker in text for marker in (_SYSTEM, _SYSTEM_END) for text in (question, answer)):
            return None
        messages.append(Message(role=Role.USER, content=question.strip()))
        messages.append(Message(role=Role.ASSISTANT, content=answer))
    return tuple(messages if messages[-1].content else messages[:-1])


def spell_markers(text: str) -> str:
    """Insert spaces in each marker in *text*, as in ``[ INST ]``, so that it does not start or end a turn."""
    return _MARKERS.neutralise(text)


def escape_content(text: str) -> str:
    """Insert spaces in markers and control tokens in *text*, so that a raw prompt can contain it as content."""
    return _CONTROL_TOKEN.sub(r"< \1s>", spell_markers(text))
