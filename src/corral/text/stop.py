"""Find stop strings in streamed text, also across several parts."""

from collections.abc import Iterable
from dataclasses import dataclass

from corral.core.errors import InvalidRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class StopResult:
    """Text that can be sent now, and the stop string that ended it."""

    text: str
    matched: str | None
    """The stop string that was found; the text ends before it."""


class StopFilter:
    """Ends a streamed text before the first stop string, independent of how the text is split into parts.

    The first stop string is the one that is complete first; of two that end at the same character, the longer. Holds
    back only the longest suffix that may still become a stop string.
    """

    def __init__(self, stops: Iterable[str], *, hidden_lead: str = "") -> None:
        """Find *stops*. If the text starts with the character *hidden_lead*, no stop string can start there.

        Raises:
            InvalidRequest: one of them is empty.
        """
        self._stops = tuple(dict.fromkeys(stops))
        if "" in self._stops:
            raise InvalidRequest("A stop string must not be empty.", param="stop")
        self._hidden_lead = hidden_lead
        self._held = ""
        self._matched: str | None = None

    def feed(self, text: str) -> StopResult:
        """Add text; return the part that cannot belong to a stop string. Empty after a match."""
        if self._matched is not None:
            return StopResult(text="", matched=self._matched)
        if text and self._hidden_lead:
            lead, self._hidden_lead = self._hidden_lead, ""
            if text.startswith(lead):
                rest = self.feed(text.removeprefix(lead))
                return StopResult(text=lead + rest.text, matched=rest.matched)
        text = self._held + text
        if match := self._first_match(text):
            start, self._matched = match
            self._held = ""
            return StopResult(text=text[:start], matched=self._matched)
        border = self._safe_length(text)
        self._held = text[border:]
        return StopResult(text=text[:border], matched=None)

    def flush(self) -> str:
        """End the text; return the held back part. Empty after a match."""
        text, self._held = self._held, ""
        return text

    def _first_match(self, text: str) -> tuple[int, str] | None:
        found = [(start + len(stop), start, stop) for stop in self._stops if (start := text.find(stop)) >= 0]
        if not found:
            return None
        _, start, stop = min(found)
        return start, stop

    def _safe_length(self, text: str) -> int:
        """Get the length of *text* without its longest suffix that is a prefix of a stop string."""
        border = len(text)
        for stop in self._stops:
            start = text.find(stop[0], max(0, len(text) - len(stop) + 1))
            while 0 <= start < border:
                if stop.startswith(text[start:]):
                    border = start
                    break
                start = text.find(stop[0], start + 1)
        return border
