"""Log probabilities of tokens, in the formats of chat completions and completions.

The engine tells the probability of the token that was chosen, not of its rivals; so a list of the most likely ones is
given only where it holds the chosen token alone (see ``translate``).
"""

import codecs
from collections.abc import Sequence
from typing import Final

from corral.api.doors.openai.wire_answers import ChatLogprobs, LegacyLogprobs, TokenLogprob

_LEAST: Final = -9999.0
"""Stands for minus infinity, which JSON cannot write; OpenAI's figure."""


def chat_logprobs(pieces: Sequence[bytes], logprobs: Sequence[float], *, top: int) -> ChatLogprobs:
    """Build one entry per token, EOS included.

    Args:
        pieces: bytes of each token.
        logprobs: natural logarithms, same length.
        top: how many of the most likely tokens were asked for at each place.
    """
    content: list[TokenLogprob] = []
    for piece, logprob in zip(pieces, logprobs, strict=True):
        entry: TokenLogprob = {"token": _text(piece), "logprob": max(logprob, _LEAST), "bytes": list(piece)}
        content.append({**entry, "top_logprobs": [entry] if top else []})
    return {"content": content, "refusal": None}


class LegacyTokens:
    """Log probabilities of one choice in the format of ``/completions``; tracks the text offset of the next token."""

    def __init__(self, *, top: int) -> None:
        self._top = top
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._offset_chars = 0

    def feed(self, pieces: Sequence[bytes], logprobs: Sequence[float | None]) -> LegacyLogprobs:
        """Add tokens. A log probability is None for the first token of a prompt only."""
        tokens: list[str] = []
        token_logprobs: list[float | None] = []
        tops: list[dict[str, float] | None] = []
        offsets: list[int] = []
        for piece, logprob in zip(pieces, logprobs, strict=True):
            written = None if logprob is None else max(logprob, _LEAST)
            tokens.append(_text(piece))
            token_logprobs.append(written)
            tops.append(None if written is None else {tokens[-1]: written})
            offsets.append(self._offset_chars)
            self._offset_chars += len(self._decoder.decode(piece))
        return {
            "tokens": tokens,
            "token_logprobs": token_logprobs,
            "top_logprobs": tops if self._top else None,
            "text_offset": offsets,
        }


def _text(piece: bytes) -> str:
    """Decode a token that may be part of a character; ``bytes`` has it exactly."""
    return piece.decode(errors="replace")
