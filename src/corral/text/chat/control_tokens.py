"""Find a vocabulary's control tokens in the text of raw prompts."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from corral.text.chat.runs import ControlToken, Run, joined_runs

UNKNOWN: Final = "<unk>"
"""Stands for text that a vocabulary cannot spell. No text is encoded to it, so a raw prompt does not write it."""


class ControlTokens:
    """The control tokens that raw prompts may contain."""

    def __init__(self, control_ids: Mapping[str, int]) -> None:
        """Compile a pattern of the tokens of *control_ids*, without the unknown token."""
        self.texts = {token_id: text for text, token_id in control_ids.items() if text != UNKNOWN and text}
        pattern = _pattern(self.texts.values())
        self._token = re.compile(f"({pattern})") if pattern else None

    def split(self, text: str) -> list[Run]:
        """Split *text* to runs; of two tokens that start at the same place, the longer one is found."""
        if self._token is None:
            return joined_runs([text])
        parts = self._token.split(text)
        return joined_runs(ControlToken(part) if index % 2 else part for index, part in enumerate(parts))


def _pattern(texts: Iterable[str]) -> str:
    """Build a regular expression in which common beginnings are matched once.

    Some vocabularies have a thousand control tokens. With each as an alternative, a text of their first characters
    would take a thousand comparisons per character.
    """
    by_first: dict[str, list[str]] = {}
    for text in texts:
        by_first.setdefault(text[:1], []).append(text[1:])
    ends = "" in by_first
    by_first.pop("", None)
    branches = [re.escape(first) + _pattern(rests) for first, rests in sorted(by_first.items())]
    if not branches:
        return ""
    return f"(?:{'|'.join(branches)}){'?' if ends else ''}" if ends or len(branches) > 1 else branches[0]
