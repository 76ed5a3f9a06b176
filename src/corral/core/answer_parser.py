"""Read the text of an answer into content and tool calls, while it arrives; see ``core.tools``.

The parts do not depend on how the text was cut, and each character is looked at a bounded number of times. What looks
like a call at first and turns out to be none is content, with all its markers.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from typing import Final, cast

from corral.core.tools import (
    AnswerPart,
    CallArguments,
    CallEnded,
    CallStarted,
    CallSyntax,
    Content,
    ParsedAnswer,
    ToolCall,
)

_NAME: Final = "name"
_ARGUMENTS: Final = ("arguments", "parameters")
"""Member with the arguments: models use either, whatever they are told."""
_HEAD_CHARS: Final = 256
"""An object whose name and arguments begin later than this is read as a whole."""
_CALL_ID_BYTES: Final = 12
_SPACE: Final = re.compile(r"\s*")
_BETWEEN: Final = re.compile(r"[\s\[\],;]*")
"""What may stand before, between and after calls: lists are taken, whether the convention has them or not."""
_HEAD: Final = re.compile(
    rf'\{{\s*"{_NAME}"\s*:\s*"(?P<name>[^"\\]*)"\s*,\s*"(?:{"|".join(_ARGUMENTS)})"\s*:\s*(?=\{{)'
)
_HEAD_TOKENS: Final = (
    *(("{",), (f'"{_NAME}"',), (":",), (), (",",)),
    *(tuple(f'"{key}"' for key in _ARGUMENTS), (":",), ("{",)),
)
"""The tokens of a head, each with its alternatives; none for any string."""
_TOKEN: Final = re.compile(r'"[^"\\]*"?|[^\s"]')


def call_id(prediction_id: str, choice: int, index: int) -> str:
    """Derive the id of a call: ``call_`` and 24 hex digits."""
    seed = f"{prediction_id}:{choice}:{index}".encode()
    return f"call_{hashlib.blake2b(seed, digest_size=_CALL_ID_BYTES).hexdigest()}"


def parse_answer(text: str, syntax: CallSyntax | None, *, prediction_id: str, choice: int = 0) -> ParsedAnswer:
    """Read a whole answer; see ``AnswerParser``."""
    parser = AnswerParser(syntax, prediction_id=prediction_id, choice=choice)
    return fold([*parser.feed(text), *parser.end()])


def fold(parts: Iterable[AnswerPart]) -> ParsedAnswer:
    """Join all parts of a choice."""
    content: list[str] = []
    begun: list[CallStarted] = []
    arguments: list[list[str]] = []
    for part in parts:
        match part:
            case Content(text):
                content.append(text)
            case CallStarted():
                begun.append(part)
                arguments.append([])
            case CallArguments(index=index, text=text):
                arguments[index].append(text)
            case CallEnded():
                pass
    calls = [
        ToolCall(id=start.id, name=start.name, arguments="".join(pieces))
        for start, pieces in zip(begun, arguments, strict=True)
    ]
    return ParsedAnswer(content="".join(content), calls=tuple(calls))


class AnswerParser:
    """Reads the text of one choice, piece by piece.

    White space between content and a call is dropped, as is an empty content's.
    """

    def __init__(self, syntax: CallSyntax | None, *, prediction_id: str, choice: int = 0) -> None:
        """Prepare to read.

        Args:
            syntax: how calls are written; None if there can be none, so that all text is content.
            prediction_id: of the answer, from which the ids of its calls are made.
            choice: number of the choice.
        """
        self._syntax: Final = syntax or CallSyntax(names=())
        self._id_of: Final[Callable[[int], str]] = lambda index: call_id(prediction_id, choice, index)
        self._markers: Final = _Starts(self._syntax.starts)
        self._parts: list[AnswerPart] = []
        self._calls = 0
        self._held = ""
        """Text that is not read yet, because it may be the beginning of something."""
        self._space: list[str] = []
        """White space that is content, unless a call follows."""
        self._unproven: list[str] = []
        """Text since the start of a call, which is content if no call follows."""
        self._json = _JsonScanner()
        self._step: Callable[[str, int], int] = self._content
        if syntax is None:
            self._step = self._verbatim
        elif syntax.is_open:
            self._step = self._between
        elif syntax.bare:
            self._step = self._beginning

    @property
    def calls(self) -> int:
        """Calls begun so far."""
        return self._calls

    def feed(self, text: str) -> list[AnswerPart]:
        """Add text; return the parts that are certain now."""
        text, self._held = self._held + text, ""
        at = 0
        while at < len(text):
            at = self._step(text, at)
        return self._taken()

    def end(self) -> list[AnswerPart]:
        """End the answer; return the rest."""
        step, held = self._step, self._held
        self._held = ""
        if step == self._arguments:
            self._parts.append(CallEnded(index=self._calls - 1))
        elif step == self._content:
            self._say(held)
        elif step in (self._head, self._whole_object) or self._unproven or not self._calls:
            self._give_back(held)
        if self._space and not self._calls:
            self._parts.append(Content("".join(self._space)))
        return self._taken()

    def _taken(self) -> list[AnswerPart]:
        parts, self._parts = self._parts, []
        return parts

    # Each step reads *text* from *at* on and returns how far it came. It may set the next step, or hold the rest back.

    def _verbatim(self, text: str, at: int) -> int:
        self._parts.append(Content(text[at:]))
        return len(text)

    def _beginning(self, text: str, at: int) -> int:
        """Before the first character of an answer that may be a call without a start."""
        solid = _end_of(_SPACE, text, at)
        self._say(text[at:solid])
        if solid < len(text):
            self._step = self._between if text[solid] == "{" else self._content
        return solid

    def _content(self, text: str, at: int) -> int:
        start = self._markers.find(text, at)
        if start is None:
            border = self._markers.safe_end(text, at)
            self._say(text[at:border])
            self._held = text[border:]
            return len(text)
        begin, end = start
        self._say(text[at:begin])
        self._unproven = [text[begin:end]]
        self._step = self._between
        return end

    def _between(self, text: str, at: int) -> int:
        """Before a call, or after one."""
        solid = _end_of(_BETWEEN, text, at)
        self._doubt(text[at:solid])
        if solid == len(text):
            return solid
        if text[solid] == "{":
            self._step = self._head
            return solid
        rest = text[solid : solid + self._markers.longest_chars + len(self._syntax.end)]
        if self._syntax.end and rest.startswith(self._syntax.end):
            if self._unproven or not self._calls:
                self._give_back(self._syntax.end)
            self._step = self._content
            return solid + len(self._syntax.end)
        if self._syntax.end.startswith(rest) or self._markers.has_prefix(rest):
            self._held = text[solid:]
            return len(text)
        self._give_back("")
        self._step = self._content
        return solid

    def _head(self, text: str, at: int) -> int:
        """In an object, before its arguments."""
        head = text[at : at + _HEAD_CHARS]
        found = _HEAD.match(head)
        if found is not None and found["name"] in self._syntax.names:
            self._begin_call(found["name"])
            self._json = _JsonScanner()
            self._step = self._arguments
            return at + found.end()
        if found is None and len(head) < _HEAD_CHARS and _may_become_head(head):
            self._held = text[at:]
            return len(text)
        self._json = _JsonScanner()
        self._step = self._whole_object
        return at

    def _arguments(self, text: str, at: int) -> int:
        end = self._json.scan(text, at)
        self._parts.append(CallArguments(index=self._calls - 1, text=text[at:end]))
        if self._json.is_over:
            self._parts.append(CallEnded(index=self._calls - 1))
            self._step = self._tail
        return end

    def _tail(self, text: str, at: int) -> int:
        """In an object, after its arguments."""
        solid = _end_of(_SPACE, text, at)
        if solid == len(text):
            return solid
        if text[solid] == ",":
            self._json = _JsonScanner(depth=1)
            self._step = self._further_members
            return solid + 1
        self._end_call()
        return solid + (text[solid] == "}")

    def _further_members(self, text: str, at: int) -> int:
        end = self._json.scan(text, at)
        if self._json.is_over:
            self._end_call()
        return end

    def _whole_object(self, text: str, at: int) -> int:
        """In an object whose members are not in the usual order, or that is no call."""
        end = self._json.scan(text, at)
        self._unproven.append(text[at:end])
        if not self._json.is_over:
            return end
        written = "".join(self._unproven)
        call = _read_call(written[written.index("{") :])
        if call is None or call[0] not in self._syntax.names:
            self._give_back("")
            self._step = self._content
            return end
        name, arguments = call
        self._begin_call(name)
        index = self._calls - 1
        self._parts += [CallArguments(index=index, text=arguments), CallEnded(index=index)]
        self._end_call()
        return end

    def _nothing_more(self, text: str, at: int) -> int:  # noqa: ARG002 - a step
        return len(text)

    def _begin_call(self, name: str) -> None:
        self._space, self._unproven = [], []
        self._parts.append(CallStarted(index=self._calls, id=self._id_of(self._calls), name=name))
        self._calls += 1

    def _end_call(self) -> None:
        self._step = self._nothing_more if self._calls == self._syntax.most_calls else self._between

    def _doubt(self, text: str) -> None:
        if text and (self._unproven or not self._calls):
            self._unproven.append(text)

    def _give_back(self, held: str) -> None:
        unproven, self._unproven = self._unproven, []
        self._say("".join(unproven) + held)

    def _say(self, text: str) -> None:
        solid = text.rstrip()
        if solid:
            self._parts.append(Content("".join(self._space) + solid))
            self._space = []
        if space := text[len(solid) :]:
            self._space.append(space)


class _Starts:
    """The texts that begin calls."""

    def __init__(self, starts: Iterable[str]) -> None:
        self._starts = tuple(starts)
        self._any = re.compile("|".join(map(re.escape, self._starts))) if self._starts else None
        self.longest_chars = max(map(len, self._starts), default=0)

    def find(self, text: str, at: int) -> tuple[int, int] | None:
        """Begin and end of the first one from *at* on."""
        found = None if self._any is None else self._any.search(text, at)
        return None if found is None else found.span()

    def has_prefix(self, text: str) -> bool:
        """Whether *text* is the beginning of one that is not complete."""
        return any(start != text and start.startswith(text) for start in self._starts)

    def safe_end(self, text: str, at: int) -> int:
        """Where the longest end of *text* begins that may become one."""
        first = max(at, len(text) - self.longest_chars + 1)
        return next((border for border in range(first, len(text)) if self.has_prefix(text[border:])), len(text))


class _JsonScanner:
    """Finds the end of a JSON object or list, whatever is in it, from brackets and quotes alone."""

    _OUTSIDE: Final = re.compile(r'["{}\[\]]')
    _INSIDE: Final = re.compile(r'["\\]')

    def __init__(self, *, depth: int = 0) -> None:
        self._depth = depth
        self._in_string = False
        self._is_escaped = False
        self.is_over = False
        """Whether the last bracket is closed."""

    def scan(self, text: str, at: int) -> int:
        """Read on; return the end of the text, or the place after the last bracket."""
        while at < len(text):
            if self._is_escaped:
                self._is_escaped = False
                at += 1
                continue
            found = (self._INSIDE if self._in_string else self._OUTSIDE).search(text, at)
            if found is None:
                return len(text)
            at = found.end()
            if self._read(found[0]):
                return at
        return at

    def _read(self, character: str) -> bool:
        match character:
            case '"':
                self._in_string = not self._in_string
            case "\\":
                self._is_escaped = True
            case "{" | "[":
                self._depth += 1
            case _:
                self._depth -= 1
                self.is_over = self._depth <= 0
        return self.is_over


def _end_of(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return at if found is None else found.end()


def _may_become_head(head: str) -> bool:
    """Whether *head*, which is no whole head, is the beginning of one."""
    tokens = _TOKEN.findall(head)
    return len(tokens) <= len(_HEAD_TOKENS) and all(
        any(each.startswith(token) for each in wanted) if wanted else token.startswith('"')
        for token, wanted in zip(tokens, _HEAD_TOKENS, strict=False)
    )


def _read_call(written: str) -> tuple[str, str] | None:
    """Read an object as a call: its name, and its arguments as JSON text; None if it is none."""
    try:
        value: object = json.loads(written, parse_constant=_refuse_constant)
        if not isinstance(value, dict):
            return None
        members = cast("dict[str, object]", value)
        name = members.get(_NAME)
        given = [members[key] for key in _ARGUMENTS if key in members]
        arguments: object = given[0] if given else {}
        if isinstance(arguments, str):
            arguments = json.loads(arguments, parse_constant=_refuse_constant)
        if not isinstance(name, str) or not isinstance(arguments, dict):
            return None
        return name, json.dumps(arguments, ensure_ascii=False)
    except (ValueError, RecursionError):
        return None


def _refuse_constant(constant: str) -> None:
    raise ValueError(constant)
