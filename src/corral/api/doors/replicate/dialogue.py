"""Recognise conversations written into ``prompt`` with instruction tags, as the model's page shows.

::

    [INST] Hi! [/INST]
    Hello! How are you?
    [INST] I'm great, thanks for asking. [/INST]

A dialogue is rewritten in Meta's reference format, which differs by white space, a BOS and an EOS for each turn, and
the system prompt inside the first turn. Wrapped whole into the template, as on Replicate, it would be a prompt of a
kind that the model was never trained on.
"""

import re
from typing import Final

_TAG: Final = re.compile(r"(\[/?INST\]|</?s>)")
"""Alternatives of fixed length: splitting takes linear time."""
_SYSTEM: Final = "<<SYS>>"


def as_reference(prompt: str, *, system_prompt: str) -> str | None:
    """Format the conversation in *prompt* in the reference chat format; None if it is not a conversation.

    The system prompt is left out where it is empty, or where the dialogue has one of its own.
    """
    turns = _turns(prompt)
    if not turns:
        return None
    first_user, first_answer = turns[0]
    if system_prompt and _SYSTEM not in first_user:
        turns[0] = (f"{_SYSTEM}\n{system_prompt}\n<</SYS>>\n\n{first_user}".strip(), first_answer)
    *closed, (user, answer) = turns
    told = "".join(f"<s>[INST] {user} [/INST] {answer} </s>" for user, answer in closed)
    return told + f"<s>[INST] {user} [/INST] {answer}".rstrip(" ")


def _turns(prompt: str) -> list[tuple[str, str]]:
    """Split a prompt into trimmed pairs of user text and answer; empty if it is not a list of turns.

    A turn is ``[<s>] [INST] user [/INST] answer [</s>]``; what is in brackets here may be missing, and white space may
    stand anywhere between.
    """
    parts = _TAG.split(prompt)
    texts, tags = [text.strip() for text in parts[::2]], parts[1::2]
    turns: list[tuple[str, str]] = []
    at = 0  # texts[at] stands before tags[at]
    while at < len(tags):
        if texts[at]:
            return []
        if tags[at] == "<s>" and not texts[at + 1]:
            at += 1
        if tags[at : at + 2] != ["[INST]", "[/INST]"]:
            return []
        turns.append((texts[at + 1], texts[at + 2]))
        at += 2
        texts[at] = ""  # the answer is read
        if tags[at : at + 1] == ["</s>"]:
            at += 1
    return [] if texts[-1] else turns
