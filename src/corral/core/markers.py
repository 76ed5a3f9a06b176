"""Llama 2's turn markers, ``[INST]`` and ``<<SYS>>``, where they stand in text that is only content."""

import re

_MARKER = re.compile(r"(\[) ?(/?) ?(INST) ?(\])|(<<) ?(/?) ?(SYS) ?(>>)")


def spell_markers(text: str) -> str:
    """Write each marker in *text* with spaces between its parts, ``[ INST ]``: it then begins or ends no turn."""
    return _MARKER.sub(lambda match: " ".join(filter(None, match.groups())), text)
