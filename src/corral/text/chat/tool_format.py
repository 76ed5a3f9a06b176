"""Conventions for tools, from the TOML files in ``tool_formats``: how tools are listed, calls written, results told.

A chat format names its convention. The texts here may contain control tokens; where a vocabulary has one of
``ToolFormat.tokens`` as a control token, it is written as that, and as plain text elsewhere.
"""

from collections.abc import Container, Mapping
from functools import cache
from typing import Final, Literal

import msgspec

from corral.core.tools import CallSyntax
from corral.text.chat.toml_tables import parse_table, read_folder

_WHAT: Final = "tool format"
PLAIN: Final = "plain"
"""Convention of models that were trained in none."""
TOOLS: Final = "{tools}"
"""Place of the tools in ``Listing.text``."""


class Listing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How tools are listed in the prompt, each as JSON."""

    place: Literal["system", "first user", "before last user"]
    """Behind the system text, in front of the first user message's content, or in front of the last user turn."""
    text: str
    """The listing, with ``{tools}`` where the tools are."""
    separator: str
    """Text between two tools."""
    indent: int | None = None
    """Spaces by which the JSON is indented; None writes it on one line."""
    system_opening: str = ""
    """Text in front of a system turn that starts a conversation with tools."""


class Calls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an assistant turn writes calls: ``begin open call between call … close``, each call an object."""

    begin: str = ""
    """What a required call begins with; it ends the prompt."""
    open: str = ""
    between: str | None = None
    """None: an answer has one call only."""
    close: str = ""
    arguments: Literal["arguments", "parameters"] = "arguments"
    """Name of the member with the arguments."""
    has_ids: bool = False
    """Whether calls and results in a conversation have ids, of nine letters and digits."""
    after_content: str = "\n"
    """Text between content and calls of one message."""
    starts: tuple[str, ...] = ()
    """Texts in an answer that begin calls."""
    end: str = ""
    """Text in an answer that ends a call."""
    bare: bool = False
    """Whether an answer may begin with a call without a start."""


class Results(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How results of calls are told."""

    turn: Literal["user", "own"]
    """Results that follow each other are one user turn, or each is a turn with the affixes here."""
    prefix: str
    suffix: str
    between: str = ""
    """Text between two results in a user turn."""
    form: Literal["text", "string", "object"] = "text"
    """As it is, as a JSON string, or as a JSON object with the id of the call."""


class ToolFormat(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A convention for tools."""

    name: str
    control: tuple[str, ...] = ()
    """Tokens that must be control tokens of the vocabulary; otherwise the plain convention is used."""
    tokens: tuple[str, ...] = ()
    """Tokens that are control tokens of some vocabularies."""
    markers: tuple[tuple[str, ...], ...] = ()
    """Parts of all texts by which a model tells tools, calls and results apart; neutralised in the content of
    conversations with tools."""
    listing: Listing
    calls: Calls
    results: Results

    def __post_init__(self) -> None:
        """Check what the types do not say.

        Raises:
            ValueError: a field contradicts another.
        """
        if self.listing.text.count(TOOLS) != 1:
            raise ValueError(f"listing.text must have {TOOLS} once")
        marked = {"".join(marker) for marker in self.markers}
        if unmarked := [token for token in (*self.control, *self.tokens) if token not in marked]:
            raise ValueError(f"{unmarked[0]} is a token, but not among markers, so that content could become it")
        if odd := [start for start in self.calls.starts if not start or "{" in start]:
            raise ValueError(f"calls.starts has {odd[0]!r}, which is empty or has a brace")
        if self.calls.begin and not self.calls.begin.startswith(self.calls.starts):
            raise ValueError("calls.begin begins with none of calls.starts")

    def control_in(self, vocabulary: Container[str]) -> tuple[str, ...]:
        """Tokens of this convention that are control tokens of a vocabulary."""
        return tuple(token for token in (*self.control, *self.tokens) if token in vocabulary)

    def syntax(self, names: tuple[str, ...], *, is_required: bool, is_parallel: bool) -> CallSyntax:
        """How an answer calls the tools *names*."""
        return CallSyntax(
            names=names,
            starts=self.calls.starts,
            end=self.calls.end,
            bare=self.calls.bare,
            is_open=is_required,
            most_calls=None if is_parallel and self.calls.between is not None else 1,
        )


@cache
def tool_formats() -> Mapping[str, ToolFormat]:
    """Get the conventions by name."""
    return read_folder("tool_formats", ToolFormat, what=_WHAT)


def parse_tool_format(name: str, document: str) -> ToolFormat:
    """Parse a convention from TOML; see ``parse_table``."""
    return parse_table(name, document, ToolFormat, what=_WHAT)


def tool_format_for(name: str, vocabulary: Container[str]) -> ToolFormat:
    """Get a convention, or the plain one if the vocabulary lacks a control token of it."""
    wanted = tool_formats()[name]
    return wanted if all(token in vocabulary for token in wanted.control) else tool_formats()[PLAIN]
