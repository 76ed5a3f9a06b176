"""Chat formats, read from the TOML files in ``formats``.

Control tokens are written as strings in the affixes of a format and listed in ``control``; a deployment's tokenizer
gives their ids, which differ by model.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Final, Literal

import msgspec

from corral.text.chat.toml_tables import parse_table, read_folder
from corral.text.chat.tool_format import PLAIN, tool_formats
from corral.text.tokenizer import Tokenizer

_PARAMETER: Final = re.compile(r"\{([a-z_]+)\}")
_WHAT: Final = "chat format"
_FOLDED: Final = ("first user", "last user")


class Affixes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Text and control tokens around the content of each message of a role."""

    prefix: str = ""
    suffix: str = ""


class SystemAffixes(Affixes, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How system messages are written."""

    place: Literal["turn", "start", "first user", "last user"]
    """Turn: each is a turn, where it stands. Start: all are joined at the start. Else: joined, in front of the content
    of that user turn. An empty text at the start is left out."""
    default: str | None = None
    """System text of conversations without one; None writes none. A recognised template has a default of its own."""
    opening: str = ""
    """Text in front of a system turn that starts the conversation; names in braces are ``ChatFormat.parameters``."""


class VocabularyEvidence(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Control tokens by which a vocabulary shows that the model was trained in the format."""

    holds: tuple[str, ...]
    lacks: tuple[str, ...] = ()


class ChatFormat(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a conversation is written for a model. A BOS at the start is not part of it: the tokenizer decides that."""

    name: str
    control: tuple[str, ...] = ()
    """Control tokens in the affixes. A vocabulary without one of them cannot have this format."""
    end: tuple[str, ...] = ()
    """Tokens that end an answer, the usual one first; those that the vocabulary has count."""
    markers: tuple[tuple[str, ...], ...] = ()
    """Parts of the markers that are plain text, which ``Markers`` neutralises in content."""
    alternates: bool = False
    """Whether user and assistant take turns, the user first: neighbours of one role are joined, and a conversation that
    starts with the assistant gets an empty user turn."""
    joining: str = "\n\n"
    """Text between messages that are joined."""
    strip: bool = False
    """Whether white space around the content of each turn is removed."""
    forget_before: str = ""
    """Answers before the last question are written without what stands before the last such text: thoughts."""
    continuing: str = ""
    """Text in front of a final answer that is continued, unless ``forget_before`` is in it."""
    tools: str = PLAIN
    """Name of the convention for tools."""
    parameters: Mapping[str, str] = {}
    """Values of the names in ``system.opening``."""
    vocabulary: VocabularyEvidence | None = None
    """None: no vocabulary shows this format."""
    system: SystemAffixes
    user: Affixes
    assistant: Affixes

    def __post_init__(self) -> None:
        """Check what the types do not say.

        Raises:
            ValueError: a field contradicts another.
        """
        affixes = "".join(self._affixes())
        if unused := [token for token in self.control if token not in affixes]:
            raise ValueError(f"control lists {unused[0]}, which no prefix or suffix contains")
        if self.system.place in _FOLDED:
            if not self.alternates:
                raise ValueError(f"system.place is {self.system.place!r}, which needs alternates = true")
            if self.split(self.system.prefix + self.system.suffix)[1:]:
                raise ValueError("system has control tokens, but stands in a user turn")
        if self.split(self.system.opening)[1:]:
            raise ValueError("system.opening has control tokens")
        if self.tools not in tool_formats():
            raise ValueError(f"tools is {self.tools!r}, which is none of {', '.join(tool_formats())}")
        if unknown := set(_PARAMETER.findall(self.system.opening)) - self.parameters.keys():
            raise ValueError(f"system.opening has {{{unknown.pop()}}}, which parameters do not give")

    def split(self, affix: str) -> list[str]:
        """Split a prefix or suffix to texts and, at odd positions, control tokens."""
        if not self.control:
            return [affix]
        return re.split(f"({'|'.join(map(re.escape, self.control))})", affix)

    @property
    def opening(self) -> str:
        """Text in front of a system turn that starts the conversation."""
        return _PARAMETER.sub(lambda name: self.parameters[name[1]], self.system.opening)

    def misfit(self, tokenizer: Tokenizer) -> str | None:
        """Say why a vocabulary cannot have this format, as a sentence; None if it can."""
        control = tokenizer.control_ids
        if missing := [token for token in self.control if token not in control]:
            return f"The chat format {self.name} needs the control token {missing[0]}, which is not in the vocabulary."
        if taken := [marker for marker in map("".join, self.markers) if marker in control]:
            return (
                f"The chat format {self.name} writes {taken[0]} as text, but it is a control token of the vocabulary."
            )
        return None

    def _affixes(self) -> Iterator[str]:
        for role in (self.system, self.user, self.assistant):
            yield from (role.prefix, role.suffix)


@cache
def chat_formats() -> Mapping[str, ChatFormat]:
    """Get the chat formats by name."""
    return read_folder("formats", ChatFormat, what=_WHAT)


def parse_format(name: str, document: str) -> ChatFormat:
    """Parse a format from TOML; see ``parse_table``."""
    return parse_table(name, document, ChatFormat, what=_WHAT)
