"""Neutralise the plain-text markers of a chat format in message content."""

import re
from collections.abc import Iterable, Sequence


class Markers:
    """Markers of turns that are plain text for the tokenizer, such as ``[INST]``.

    Unlike a control token, such a marker in a message would have the ids of the format's own. ``neutralise`` writes it
    with spaces, ``[ INST ]``, which encodes to other ids.
    """

    def __init__(self, markers: Iterable[Sequence[str]]) -> None:
        """Compile the markers.

        Args:
            markers: parts of each marker, between which spaces are inserted: ``("[", "INST", "]")``. A marker that
                begins with a letter counts only at the start of a word: ``USER:`` is not in ``SUPERUSER:``.
        """
        patterns = [_pattern(parts) for parts in markers]
        self._marker = re.compile("|".join(patterns)) if patterns else None

    def neutralise(self, text: str) -> str:
        """Insert spaces in each marker in *text*, so that it does not start or end a turn. Other text is unchanged."""
        if self._marker is None:
            return text
        return self._marker.sub(lambda match: " ".join(filter(None, match.groups())), text)


def _pattern(parts: Sequence[str]) -> str:
    """Match a marker, also with a space between its parts: fixed strings and optional spaces, so matching is linear."""
    spelled = " ?".join(f"({_literal(part)})" for part in parts)
    return rf"(?<!\w){spelled}" if parts[0][0].isalnum() else spelled


def _literal(part: str) -> str:
    return re.escape(part).replace(r"\ ", "[ \u2581]")  # SentencePiece encodes both alike
