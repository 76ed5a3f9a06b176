"""Recognise conversations written into ``prompt`` with instruction tags, as the model's page shows.

::

    [INST] Hi! [/INST]
    Hello! How are you?
    [INST] I'm great, thanks for asking. [/INST]

A dialogue is rewritten in Meta's reference format, which differs by white space, a BOS and an EOS for each turn, and
the system prompt inside the first turn. Wrapped whole into the template, as on Replicate, it would be a prompt of a
kind that the model was never trained on.
"""

from typing import Final

from corral.core.llama2_prompts import split_turns

_SYSTEM: Final = "<<SYS>>"


def as_reference(prompt: str, *, system_prompt: str) -> str | None:
    """Format the conversation in *prompt* in the reference chat format; None if it is not a conversation.

    The system prompt is left out where it is empty, or where the dialogue has one of its own.
    """
    turns = [(turn.user, turn.answer) for turn in split_turns(prompt)]
    if not turns:
        return None
    first_user, first_answer = turns[0]
    if system_prompt and _SYSTEM not in first_user:
        turns[0] = (f"{_SYSTEM}\n{system_prompt}\n<</SYS>>\n\n{first_user}".strip(), first_answer)
    *closed, (user, answer) = turns
    told = "".join(f"<s>[INST] {user} [/INST] {answer} </s>" for user, answer in closed)
    return told + f"<s>[INST] {user} [/INST] {answer}".rstrip(" ")
