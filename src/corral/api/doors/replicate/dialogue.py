r"""A dialogue that the caller wrote into ``prompt``, with instruction tags as the model's page shows it. Pure.

::

    [INST] Hi! [/INST]
    Hello! How are you?
    [INST] I'm great, thanks for asking. [/INST]

It becomes Meta's reference format, which differs by white space, a BOS and an EOS for each turn, and the system prompt
inside the first one. Wrapped whole into the template, as on Replicate, it would be nothing the model was trained on.
"""

import re
from typing import Final

_TURN: Final = re.compile(
    r"\s*(?:<s>)?\s*\[INST\](?P<user>.*?)\[/INST\](?P<answer>.*?)(?=(?:<s>\s*)?\[INST\]|\Z)", re.S
)
_TAG: Final = re.compile(r"\[/?INST\]|</?s>")
_END: Final = re.compile(r"\s*(?:</s>)?\s*\Z")
_SYSTEM: Final = "<<SYS>>"


def as_reference(prompt: str, *, system_prompt: str) -> str | None:
    """*prompt* in the reference format, with control tokens spelt out; None if it is no dialogue.

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
    """User text and answer of each turn, trimmed; empty if the whole prompt is not made of such."""
    turns: list[tuple[str, str]] = []
    at = 0
    while match := _TURN.match(prompt, at):
        user, answer = match["user"].strip(), _END.sub("", match["answer"]).strip()
        if _TAG.search(user) or _TAG.search(answer):
            return []
        turns.append((user, answer))
        at = match.end()
    return turns if at == len(prompt) else []
