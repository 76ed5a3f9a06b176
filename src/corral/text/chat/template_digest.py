"""Digest of a chat template, for comparing it with known ones. A template is never run.

Two templates have the same digest if they differ only in ways that cannot change what they write: white space within
tags, the quotes of strings, comments, and how white space around tags is kept from the output. Templates are read as
``transformers`` runs them, with ``trim_blocks`` and ``lstrip_blocks``.
"""

import hashlib
import re
from collections.abc import Iterator
from typing import Final

_OPENING: Final = re.compile(r"\{([%{#])([-+]?)")
_TOKEN: Final = re.compile(r"\s+|(?P<word>\w+)|(?P<string>['\"])|(?P<end>[-+]?(?:%\}|\}\}))|(?P<sign>.)", re.DOTALL)
_STRING_END: Final = {quote: re.compile(rf"([^{quote}\\]*(?:\\.[^{quote}\\]*)*){quote}", re.DOTALL) for quote in "'\""}
_COMMENT_END: Final = re.compile(r"([-+]?)#\}")
_INDENT: Final = " \t"


def template_digest(template: str) -> str:
    """Compute the digest, 64 hexadecimal digits."""
    text = template.replace("\r\n", "\n").removesuffix("\n")
    parts = [part for part in _Scanner(text).parts() if part != ("text", "")]
    return hashlib.sha256(repr(parts).encode(errors="surrogatepass")).hexdigest()


class _Scanner:
    """Splits a template to texts and tags, each in its normal form. Takes linear time."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._trimmed = ""
        """How the next text begins: ``all`` white space is removed, a ``line`` feed, or nothing."""

    def parts(self) -> Iterator[tuple[str, str]]:
        """List texts and tags. The rest of a template with an open tag or string is one part, as it is written."""
        while opening := _OPENING.search(self._text, self._at):
            kind, keep = opening.groups()
            yield "text", self._before(opening.start(), kind=kind, keep=keep)
            self._at = opening.end()
            tag = self._comment() if kind == "#" else self._tag(kind)
            if tag is None:
                yield "open", self._text[opening.start() :]
                return
            if kind != "#":
                yield f"{kind}{'+' if keep == '+' else ''}", tag
        yield "text", self._begun(self._text[self._at :])

    def _before(self, end: int, *, kind: str, keep: str) -> str:
        """Get the text in front of a tag, as it is output."""
        text = self._begun(self._text[self._at : end])
        if keep == "-":
            return text.rstrip()
        own_line = text.rstrip(_INDENT)
        starts_line = own_line.endswith("\n") or (not own_line and (self._at == 0 or self._trimmed == "line"))
        return own_line if kind != "{" and keep != "+" and starts_line else text

    def _begun(self, text: str) -> str:
        """Remove what the tag before *text* keeps from the output."""
        if self._trimmed == "all":
            return text.lstrip()
        return text.removeprefix("\n") if self._trimmed == "line" else text

    def _comment(self) -> str | None:
        end = _COMMENT_END.search(self._text, self._at)
        if end is None:
            return None
        self._at = end.end()
        self._trimmed = {"-": "all", "+": "", "": "line"}[end[1]]
        return ""

    def _tag(self, kind: str) -> str | None:
        """Read to the end of a tag, and write its tokens with one space between them; None if it has no end."""
        tokens: list[str] = []
        while token := _TOKEN.match(self._text, self._at):
            self._at = token.end()
            if (end := token["end"]) and end.endswith("%}" if kind == "%" else "}}"):
                self._trimmed = "all" if end[0] == "-" else "line" if kind == "%" and end[0] != "+" else ""
                return " ".join(tokens)
            if token["string"]:
                string = _STRING_END[token["string"]].match(self._text, self._at)
                if string is None:
                    return None
                self._at = string.end()
                tokens.append(_normal_string(string[1], token["string"]))
            elif not token[0].isspace():
                tokens.append(token[0])
        return None


def _normal_string(body: str, quote: str) -> str:
    """Write a string with double quotes if neither kind is in it, and line feeds as escapes."""
    plain = body.replace("\n", r"\n")
    return f"{quote}{plain}{quote}" if "'" in plain or '"' in plain else f'"{plain}"'
