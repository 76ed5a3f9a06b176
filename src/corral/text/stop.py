"""Stop strings across token borders. Must not know of tokens, engines or HTTP."""

from collections.abc import Iterable
from dataclasses import dataclass

from corral.core.errors import InvalidRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class StopResult:
    """Text that may be shown now, and the stop string that ended it."""

    text: str
    matched: str | None
    """Set once a stop string is complete; the text ends before it."""


class StopFilter:
    """Ends a text before the first stop string, however the text is cut into parts.

    First is the one complete first, read character by character, and of two that end together the longer: what a
    reader who watches for them would call the end, whatever comes after. Only the longest ending of the text that
    may still grow into a stop string is held back.
    """

    def __init__(self, stops: Iterable[str], *, hidden_lead: str = "") -> None:
        """Watch for *stops*, none of which can begin in *hidden_lead*, a character, where the text begins with it.

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
        """Text that no stop string can reach any more; nothing after a match."""
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
        """The text held back, when nothing more comes; empty after a match."""
        text, self._held = self._held, ""
        return text

    def _first_match(self, text: str) -> tuple[int, str] | None:
        found = [(start + len(stop), start, stop) for stop in self._stops if (start := text.find(stop)) >= 0]
        if not found:
            return None
        _, start, stop = min(found)
        return start, stop

    def _safe_length(self, text: str) -> int:
        """Where the longest ending of *text* starts that begins a stop string."""
        border = len(text)
        for stop in self._stops:
            start = text.find(stop[0], max(0, len(text) - len(stop) + 1))
            while 0 <= start < border:
                if stop.startswith(text[start:]):
                    border = start
                    break
                start = text.find(stop[0], start + 1)
        return border
