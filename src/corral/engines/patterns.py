r"""Check regular expressions, and rewrite them in a small language that every grammar engine reads alike.

Grammar engines accept much that they then read in their own way: lookarounds, ``\b``, NUL bytes, repetitions without
end. Here a pattern is either in that language, or refused with a message. The result consists of characters, classes
written out as ranges, groups, ``|`` and repetitions. It must match whole texts, so ``^`` in front and ``$`` at the end
are dropped.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from typing import Final, NoReturn

from corral.core.errors import InvalidRequest

MAX_REPEATED: Final = 512
"""Characters and classes that repetitions like ``{2,9}`` may write out together; compiling costs about that many."""
_MAX_DEPTH: Final = 32
_LAST: Final = 0x10FFFF

Ranges = list[tuple[int, int]]
"""Code points, both ends included, in order."""


def _range(text: str) -> Ranges:
    return sorted((ord(low), ord(high)) for low, high in zip(text[::2], text[1::2], strict=True))


_CLASSES: Final[dict[str, Ranges]] = {"d": _range("09"), "w": _range("azAZ09__"), "s": _range("\t\n\r\r  ")}
_CONTROLS: Final = {"n": "\n", "t": "\t", "r": "\r"}
_ALIKE: Final[Ranges] = [
    (0, 0x7F),
    (0x80, 0x7FF),
    (0x800, 0xFFF),
    (0x1000, 0xCFFF),
    (0xD000, 0xD7FF),
    (0xE000, 0xFFFF),
    (0x10000, 0x3FFFF),
    (0x40000, 0xFFFFF),
    (0x100000, _LAST),
]
"""Characters, surrogates left out, by the form of their UTF-8. Grammar engines turn ranges into ranges of bytes, and
those that reach from one form into the next into too many or too few."""
_NO_TEXT: Final = _range("\x00\x08\x0b\x0c\x0e\x1f")
_NO_JSON_TEXT: Final = _range('\x00\x1f""\\\\')


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """A checked and rewritten pattern."""

    text: str
    repeated: int
    """Characters and classes that its counted repetitions write out."""


def read_pattern(source: str, *, in_json: bool = False) -> Pattern:
    """Check and rewrite a pattern.

    Args:
        source: the pattern; it must match the whole text.
        in_json: it describes what is between the quotes of a JSON string. Characters that JSON would escape are then
            left out of its classes.

    Raises:
        InvalidRequest: it is no regular expression, or uses what is not offered; says what and where.
    """
    reader = _Reader(source, _without(_ALIKE, _NO_JSON_TEXT if in_json else _NO_TEXT))
    text, _ = reader.alternatives(0)
    if reader.at < reader.end:
        reader.refuse("has a ')' too many")
    return Pattern(text=text, repeated=reader.repeated)


class _Reader:
    """Recursive-descent parser that rewrites a pattern and counts its size."""

    def __init__(self, source: str, alphabet: Ranges) -> None:
        self._source = source
        self._alphabet = alphabet
        self.at = 1 if source.startswith("^") else 0
        self.end = len(source)
        if source.endswith("$") and (len(source) - len(source[:-1].rstrip("\\"))) % 2 == 1:
            self.end -= 1
        self.repeated = 0

    def refuse(self, why: str) -> NoReturn:
        """Raise InvalidRequest with the position."""
        raise InvalidRequest(f"The regular expression {why} (at character {self.at + 1}).", param="response_format")

    def _peek(self) -> str:
        return self._source[self.at] if self.at < self.end else ""

    def _take(self) -> str:
        character = self._peek()
        if not character:
            self.refuse("ends too early")
        self.at += 1
        return character

    def _took(self, text: str) -> bool:
        found = self._source.startswith(text, self.at, self.end)
        self.at += len(text) if found else 0
        return found

    def alternatives(self, depth: int) -> tuple[str, int]:
        """Parse until the end or a ``)``; returns text and size."""
        if depth > _MAX_DEPTH:
            self.refuse(f"is nested deeper than {_MAX_DEPTH}")
        alternatives: list[list[str]] = [[]]
        size = 0
        while self._peek() not in {"", ")"}:
            if self._took("|"):
                alternatives.append([])
                continue
            text, atom_size = self._repeated(*self._atom(depth))
            alternatives[-1].append(text)
            size += atom_size
        if not all(alternatives):
            self.refuse("has an alternative that is empty; use '?'")
        return _factored(list(map(tuple, alternatives))), size

    def _atom(self, depth: int) -> tuple[str, int]:
        character = self._take()
        match character:
            case "(":
                if self._took("?") and not self._took(":"):
                    self.refuse("uses a group other than (…) and (?:…), which is not offered")
                text, size = self.alternatives(depth + 1)
                if not self._took(")"):
                    self.refuse("lacks a ')'")
                return f"({text})", size
            case "[":
                return self._spell(self._class()), 1
            case ".":
                return self._spell(_without([(0, _LAST)], [(10, 10)])), 1
            case "\\":
                return self._spell(self._escape()), 1
            case "*" | "+" | "?" | "{":
                self.refuse("repeats nothing")
            case "^" | "$":
                self.refuse(f"has {character} in its middle, which is not offered")
            case _:
                pass
        return self._spell([(ord(character), ord(character))]), 1

    def _repeated(self, text: str, size: int) -> tuple[str, int]:
        for sign in ("*", "+", "?"):
            if self._took(sign):
                self._took("?")  # lazy or not, the whole text matches the same
                return text + sign, size
        if not self._took("{"):
            return text, size
        least = self._number()
        most: int | None = least
        if self._took(","):
            most = None if self._peek() == "}" else self._number()
        if not self._took("}") or (most is not None and most < least):
            self.refuse("has a repetition that is not {m}, {m,} or {m,n}")
        self._took("?")
        written = size * max(least, most or 0, 1)
        self.repeated += written - size
        if self.repeated > MAX_REPEATED:
            self.refuse(f"writes out more than {MAX_REPEATED} characters in repetitions")
        return f"{text}{{{least},{'' if most is None else most}}}", written

    def _number(self) -> int:
        digits = ""
        while self._peek().isdecimal() and self._peek().isascii() and len(digits) < 6:
            digits += self._take()
        if not digits:
            self.refuse("has a repetition that is not {m}, {m,} or {m,n}")
        return int(digits)

    def _class(self) -> Ranges:
        negated = self._took("^")
        ranges: Ranges = []
        while not ranges or self._peek() != "]":
            low = self._class_item()
            if self._peek() == "-" and self._source[self.at + 1 : self.at + 2] not in {"", "]"}:
                self.at += 1
                high = self._class_item()
                if len(low) != 1 or len(high) != 1 or low[0][0] != low[0][1] or high[0][1] < low[0][0]:
                    self.refuse("has a range that is none")
                low = [(low[0][0], high[0][1])]
            ranges += low
        self.at += 1
        return _without([(0, _LAST)], ranges) if negated else ranges

    def _class_item(self) -> Ranges:
        character = self._take()
        if character == "[":
            self.refuse("has a '[' in a class without a backslash")
        return self._escape() if character == "\\" else [(ord(character), ord(character))]

    def _escape(self) -> Ranges:
        character = self._take()
        if character.lower() in _CLASSES:
            ranges = _CLASSES[character.lower()]
            return ranges if character.islower() else _without([(0, _LAST)], ranges)
        if character in _CONTROLS:
            character = _CONTROLS[character]
        elif character in {"x", "u"}:
            digits = "".join(self._take() for _ in range(2 if character == "x" else 4))
            try:
                character = chr(int(digits, 16))
            except ValueError:
                self.refuse("has an escape that is no number")
        elif character.isalnum():
            self.refuse(f"uses \\{character}, which is not offered")
        return [(ord(character), ord(character))]

    def _spell(self, ranges: Ranges) -> str:
        allowed = _common(_merged(ranges), self._alphabet)
        if not allowed:
            self.refuse("asks for a character that cannot stand there")
        if len(allowed) == 1 and allowed[0][0] == allowed[0][1]:
            return _spell_character(allowed[0][0])
        parts = (_spell_character(low) + (f"-{_spell_character(high)}" if high > low else "") for low, high in allowed)
        return f"[{''.join(parts)}]"


def _factored(alternatives: Sequence[tuple[str, ...]]) -> str:
    """Merge alternatives into one expression in which no two begin alike.

    Grammar engines turn plain alternatives of words into something that also matches mixtures of them. Calls itself
    only where alternatives part, so that a long one needs no deep stack.
    """
    columns = zip(*alternatives, strict=False)
    shared = [column[0] for column in takewhile(lambda column: len(set(column)) == 1, columns)]
    same = len(shared)
    tails: dict[str, list[tuple[str, ...]]] = {}
    for atoms in dict.fromkeys(alternatives):
        if len(atoms) > same:
            tails.setdefault(atoms[same], []).append(atoms[same:])
    if not tails:
        return "".join(shared)
    optional = any(len(atoms) == same for atoms in alternatives)
    return f"{''.join(shared)}({'|'.join(map(_factored, tails.values()))}){'?' if optional else ''}"


def _spell_character(code: int) -> str:
    for letter, control in _CONTROLS.items():
        if chr(code) == control:
            return f"\\{letter}"
    character = chr(code)
    return f"\\{character}" if character in "\\^$.*+?()[]{}|-/" else character


def _merged(ranges: Ranges) -> Ranges:
    merged: Ranges = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return merged


def _without(ranges: Ranges, removed: Ranges) -> Ranges:
    edges = [(-1, -1), *_merged(removed), (_LAST + 1, _LAST + 1)]
    gaps = [(before[1] + 1, after[0] - 1) for before, after in pairwise(edges) if before[1] + 1 < after[0]]
    return _common(ranges, gaps)


def _common(ranges: Ranges, others: Ranges) -> Ranges:
    """Intersect two lists of ranges; borders between neighbouring ranges stay."""
    pairs = ((max(a, c), min(b, d)) for a, b in ranges for c, d in others)
    return sorted((low, high) for low, high in pairs if low <= high)
