"""Neutralise Llama 2's turn markers ``[INST]`` and ``<<SYS>>`` in message content."""

import re

_MARKER = re.compile(r"(\[) ?(/?) ?(INST) ?(\])|(<<) ?(/?) ?(SYS) ?(>>)")


def spell_markers(text: str) -> str:
    """Insert spaces in each marker in *text*, as in ``[ INST ]``, so that it does not start or end a turn."""
    return _MARKER.sub(lambda match: " ".join(filter(None, match.groups())), text)
