"""Split an answer into chunks; used by GET, streams and webhooks, so that all three show the same text.

Replicate's Python client takes a chunk that begins with ``https:`` or ``data:`` for a file and then cannot print it, so
no chunk begins so. It reads a stream with ``str.splitlines`` and loses what follows a separator inside of an event, so
a separator ends its chunk. And the space that the tokenizer puts before a first word is no part of an answer there.
"""

import re
from collections.abc import Iterable
from typing import Final

_TAKEN_FOR_FILES: Final = ("https:", "data:")
_SEPARATED: Final = re.compile("[^\v\f\x1c-\x1e\x85\u2028\u2029]*.", re.DOTALL)
"""Text up to a separator or the end: vertical tab, form feed, FS, GS, RS, NEL, line and paragraph separators."""
LEAD: Final = " "


def shown(chunks: Iterable[str]) -> list[str]:
    """Chunks of an answer, from the text of each token. Append-only: earlier chunks never change."""
    listed: list[str] = []
    nothing_shown = True
    for text in chunks:
        listed += cut(text.removeprefix(LEAD) if nothing_shown else text)
        nothing_shown = nothing_shown and not text
    return listed


def cut(text: str) -> list[str]:
    """Split *text* into chunks that every client reads unchanged; none for an empty text."""
    chunks: list[str] = []
    for chunk in _SEPARATED.findall(text):
        chunks += [chunk[:1], chunk[1:]] if chunk.startswith(_TAKEN_FOR_FILES) else [chunk]
    return chunks
