"""Render conversations in a chat format, as runs of text and control tokens."""

import re
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final

from corral.core.errors import InvalidRequest
from corral.core.generation import Message, Role
from corral.core.markers import Markers
from corral.core.tools import Tool
from corral.text.chat.format import Affixes, ChatFormat
from corral.text.chat.runs import ControlToken, Run, joined_runs
from corral.text.chat.tool_format import tool_format_for
from corral.text.chat.tool_texts import ToolTexts


@dataclass(frozen=True, slots=True)
class _Turn:
    role: Role
    text: str
    lead: str = ""
    """Text in front of the turn."""


class ChatRenderer:
    """Renders conversations in one format."""

    def __init__(
        self, chat_format: ChatFormat, *, default_system: str | None = None, vocabulary: Container[str] = ()
    ) -> None:
        """Prepare a format.

        Args:
            chat_format: the format.
            default_system: system text of conversations that have none; None writes none.
            vocabulary: texts of the vocabulary's control tokens.
        """
        self.tool_format: Final = tool_format_for(chat_format.tools, vocabulary)
        self.tool_tokens: Final = self.tool_format.control_in(vocabulary)
        """Control tokens of the convention for tools that the vocabulary has."""
        self._format = chat_format
        self._default_system = default_system
        self._markers = Markers(chat_format.markers)
        self._tool_markers = Markers((*chat_format.markers, *self.tool_format.markers))
        results = self.tool_format.results
        own = Affixes(prefix=results.prefix, suffix=results.suffix)
        control = (*chat_format.control, *self.tool_tokens)
        self._affixes = {
            Role.SYSTEM: _Frame(control, chat_format.system),
            Role.USER: _Frame(control, chat_format.user),
            Role.ASSISTANT: _Frame(control, chat_format.assistant),
            Role.TOOL: _Frame(control, own if results.turn == "own" else chat_format.user),
        }

    def render(
        self, messages: Sequence[Message], tools: Sequence[Tool] = (), *, requires_call: bool = False
    ) -> list[Run]:
        """Render a conversation for the model to answer.

        A final assistant message is left open, to be continued. Markers in messages are neutralised with spaces.

        Args:
            messages: the conversation.
            tools: functions that the answer may call.
            requires_call: the answer must be a call, whose start is written.

        Raises:
            InvalidRequest: there is no message.
        """
        if not messages:
            raise InvalidRequest("messages must not be empty.", param="messages")
        has_tools = bool(tools) or any(each.tool_calls or each.role is Role.TOOL for each in messages)
        turns = self._turns(messages, tools, self._tool_markers if has_tools else self._markers)
        self._forget_thoughts(turns)
        *closed, last = turns if turns[-1].role is Role.ASSISTANT else [*turns, _Turn(Role.ASSISTANT, "")]
        if requires_call:
            calls = self.tool_format.calls
            last = replace(last, text=last.text and last.text + calls.after_content)
            last = replace(last, text=last.text + calls.begin)
        parts = [*self._closed(closed, has_tools=bool(tools)), *self._open(last)]
        runs = joined_runs(self._split_tool_tokens(parts) if has_tools else parts)
        # A trailing space would be a separate token, which never precedes a word in the training data.
        if runs and isinstance(runs[-1], str):
            runs[-1:] = [text] if (text := runs[-1].rstrip(" ")) else []
        return runs

    def _closed(self, turns: Iterable[_Turn], *, has_tools: bool) -> Iterator[Run]:
        for index, turn in enumerate(turns):
            frame = self._affixes[turn.role]
            yield turn.lead
            yield from frame.prefix
            if index == 0 and turn.role is Role.SYSTEM:
                yield (self.tool_format.listing.system_opening if has_tools else "") + self._format.opening
            yield turn.text.strip() if self._format.strip else turn.text
            yield from frame.suffix

    def _open(self, turn: _Turn) -> Iterator[Run]:
        yield from self._affixes[turn.role].prefix
        if turn.text and self._format.forget_before not in turn.text:
            yield self._format.continuing
        yield turn.text.lstrip() if self._format.strip else turn.text

    def _split_tool_tokens(self, parts: Iterable[Run]) -> Iterator[Run]:
        """Split texts at control tokens of the convention. Content has none: they are markers of ``_tool_markers``."""
        for part in parts:
            yield from _split(self.tool_tokens, part) if isinstance(part, str) else (part,)

    def _turns(self, messages: Sequence[Message], tools: Sequence[Tool], markers: Markers) -> list[_Turn]:
        texts = ToolTexts(self.tool_format, markers.neutralise)
        listing = texts.listing(tools) if tools else ""
        turns = self._spoken_turns(messages, texts)
        if self.tool_format.listing.place == "system":
            return self._placed(turns, listing)
        return self._listed(self._placed(turns, ""), listing) if listing else self._placed(turns, "")

    def _spoken_turns(self, messages: Sequence[Message], texts: ToolTexts) -> list[_Turn]:
        """One turn for each message; results in user turns are joined."""
        turns: list[_Turn] = []
        for role, group in groupby(messages, key=lambda message: message.role):
            said = list(group)
            if role is not Role.TOOL:
                turns += [_Turn(role, texts.answer(message)) for message in said]
            elif self.tool_format.results.turn == "own":
                turns += [_Turn(role, texts.result(message)) for message in said]
            else:
                turns.append(_Turn(Role.USER if self._format.alternates else role, texts.results(said)))
        return turns

    def _placed(self, turns: list[_Turn], listing: str) -> list[_Turn]:
        """Put the system text, with *listing* behind it, where the format has it."""
        place = self._format.system.place
        if place == "turn":
            first = turns[0].text if turns[0].role is Role.SYSTEM else self._default_system
            if (system := self._joined(first, listing)) is not None:
                turns[: turns[0].role is Role.SYSTEM] = [_Turn(Role.SYSTEM, system)]
            return self._alternating(turns)
        system, spoken = self._split_system(turns)
        system = self._joined(system, listing)
        spoken = self._alternating(spoken)
        if system is None:
            return spoken
        if place == "start":
            return [_Turn(Role.SYSTEM, system), *spoken] if system else spoken
        users = [index for index, turn in enumerate(spoken) if turn.role is Role.USER]
        at = users[0] if place == "first user" else users[-1]
        affixes = self._format.system
        spoken[at] = _Turn(Role.USER, affixes.prefix + system + affixes.suffix + spoken[at].text)
        return spoken

    def _listed(self, turns: list[_Turn], listing: str) -> list[_Turn]:
        """Put *listing* at the user turn where the convention has it; a conversation without any gets one."""
        users = [index for index, turn in enumerate(turns) if turn.role is Role.USER]
        if not users:
            turns.append(_Turn(Role.USER, ""))
            users = [len(turns) - 1]
        if self.tool_format.listing.place == "first user":
            turn = turns[users[0]]
            turns[users[0]] = replace(turn, text=listing + (turn.text.strip() if self._format.strip else turn.text))
        else:
            turns[users[-1]] = replace(turns[users[-1]], lead=listing)
        return turns

    def _joined(self, system: str | None, listing: str) -> str | None:
        return self._format.joining.join(filter(None, (system, listing))) if listing else system

    def _forget_thoughts(self, turns: list[_Turn]) -> None:
        thought_end = self._format.forget_before
        if not thought_end:
            return
        last_question = max((index for index, turn in enumerate(turns) if turn.role is Role.USER), default=0)
        for index, turn in enumerate(turns[:last_question]):
            if turn.role is Role.ASSISTANT and thought_end in turn.text:
                turns[index] = _Turn(turn.role, turn.text.rpartition(thought_end)[2].lstrip("\n"))

    def _split_system(self, turns: Iterable[_Turn]) -> tuple[str | None, list[_Turn]]:
        """Join the system messages of all positions, or take the default; and list the other turns."""
        listed = list(turns)
        texts = [turn.text for turn in listed if turn.role is Role.SYSTEM]
        system = self._format.joining.join(texts) if texts else self._default_system
        return system, [turn for turn in listed if turn.role is not Role.SYSTEM]

    def _alternating(self, turns: list[_Turn]) -> list[_Turn]:
        if not self._format.alternates:
            return turns
        joined: list[_Turn] = []
        for role, group in groupby(turns, key=lambda turn: turn.role):
            said = list(group)
            if role is Role.TOOL:
                joined += said
            else:
                joined.append(_Turn(role, self._format.joining.join(each.text for each in said)))
        if not joined or joined[0].role is not Role.USER:
            joined.insert(0, _Turn(Role.USER, ""))
        return joined


class _Frame:
    """Prefix and suffix of a role, as runs."""

    def __init__(self, control: Sequence[str], affixes: Affixes) -> None:
        self.prefix = _split(control, affixes.prefix)
        self.suffix = _split(control, affixes.suffix)


def _split(control: Sequence[str], text: str) -> tuple[Run, ...]:
    """Split *text* at the tokens of *control*."""
    if not control:
        return (text,)
    parts = re.split(f"({'|'.join(map(re.escape, control))})", text)
    return tuple(ControlToken(part) if index % 2 else part for index, part in enumerate(parts))
