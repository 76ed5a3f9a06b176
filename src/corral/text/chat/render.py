"""Render conversations in a chat format, as runs of text and control tokens."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from corral.core.errors import InvalidRequest
from corral.core.generation import Message, Role
from corral.core.markers import Markers
from corral.text.chat.format import Affixes, ChatFormat
from corral.text.chat.runs import ControlToken, Run, joined_runs


@dataclass(frozen=True, slots=True)
class _Turn:
    role: Role
    text: str


class ChatRenderer:
    """Renders conversations in one format."""

    def __init__(self, chat_format: ChatFormat, *, default_system: str | None = None) -> None:
        """Prepare a format.

        Args:
            chat_format: the format.
            default_system: system text of conversations that have none; None writes none.
        """
        self._format = chat_format
        self._default_system = default_system
        self._markers = Markers(chat_format.markers)
        self._affixes = {
            Role.SYSTEM: _Frame(chat_format, chat_format.system),
            Role.USER: _Frame(chat_format, chat_format.user),
            Role.ASSISTANT: _Frame(chat_format, chat_format.assistant),
        }

    def render(self, messages: Sequence[Message]) -> list[Run]:
        """Render a conversation for the model to answer.

        A final assistant message is left open, to be continued. Markers in messages are neutralised with spaces.

        Raises:
            InvalidRequest: there is no message.
        """
        if not messages:
            raise InvalidRequest("messages must not be empty.", param="messages")
        turns = self._turns(messages)
        self._forget_thoughts(turns)
        if turns[-1:] and turns[-1].role is Role.ASSISTANT:
            *closed, last = turns
        else:
            closed, last = turns, _Turn(Role.ASSISTANT, "")
        runs = joined_runs([*self._closed(closed), *self._open(last)])
        # A trailing space would be a separate token, which never precedes a word in the training data.
        if runs and isinstance(runs[-1], str):
            runs[-1:] = [text] if (text := runs[-1].rstrip(" ")) else []
        return runs

    def _closed(self, turns: Iterable[_Turn]) -> Iterator[Run]:
        for index, turn in enumerate(turns):
            frame = self._affixes[turn.role]
            yield from frame.prefix
            if index == 0 and turn.role is Role.SYSTEM:
                yield self._format.opening
            yield turn.text.strip() if self._format.strip else turn.text
            yield from frame.suffix

    def _open(self, turn: _Turn) -> Iterator[Run]:
        yield from self._affixes[turn.role].prefix
        if turn.text and self._format.forget_before not in turn.text:
            yield self._format.continuing
        yield turn.text.lstrip() if self._format.strip else turn.text

    def _turns(self, messages: Sequence[Message]) -> list[_Turn]:
        turns = [_Turn(each.role, self._markers.neutralise(each.content)) for each in messages]
        place = self._format.system.place
        if place == "turn":
            if self._default_system is not None and turns[0].role is not Role.SYSTEM:
                turns.insert(0, _Turn(Role.SYSTEM, self._default_system))
            return self._alternating(turns)
        system, spoken = self._split_system(turns)
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
        groups = groupby(turns, key=lambda turn: turn.role)
        joined = [_Turn(role, self._format.joining.join(turn.text for turn in group)) for role, group in groups]
        if not joined or joined[0].role is Role.ASSISTANT:
            joined.insert(0, _Turn(Role.USER, ""))
        return joined


class _Frame:
    """Prefix and suffix of a role, as runs."""

    def __init__(self, chat_format: ChatFormat, affixes: Affixes) -> None:
        self.prefix = _runs_of(chat_format, affixes.prefix)
        self.suffix = _runs_of(chat_format, affixes.suffix)


def _runs_of(chat_format: ChatFormat, affix: str) -> tuple[Run, ...]:
    parts = chat_format.split(affix)
    return tuple(ControlToken(part) if index % 2 else part for index, part in enumerate(parts))
