"""An answer as chunks: one function for GET, streams and webhooks, so that all three add up to one text. Pure.

Replicate's Python client takes a chunk that begins with ``https:`` or ``data:`` for a file and then cannot print it, so
no chunk begins so. And the space that the tokenizer puts before a first word is no part of an answer there.
"""

from collections.abc import Iterable
from typing import Final

_TAKEN_FOR_FILES: Final = ("https:", "data:")
LEAD: Final = " "


def shown(chunks: Iterable[str]) -> list[str]:
    """The chunks of an answer, from the text of each token. Grows at its end only."""
    listed: list[str] = []
    for index, text in enumerate(chunks):
        listed += cut(text.removeprefix(LEAD) if index == 0 else text)
    return listed


def cut(text: str) -> list[str]:
    """*text* as chunks that no client takes for a file; none for an empty one."""
    if text.startswith(_TAKEN_FOR_FILES):
        return [text[:1], text[1:]]
    return [text] if text else []
