"""Conversations as token ids and labels, in Meta's Llama 2 prompt format.

A label is the token that should come next at a position, or ``IGNORED``. History ends each answer
with a space and EOS, as the format wants; the model itself is taught to end right after its words.
"""

from dataclasses import dataclass
from random import Random

from tokenizers import Tokenizer

from training.demo.corpus import Conversation, Turn
from training.demo.tokenizer import BOS_ID, EOS_ID, SPACE

IGNORED = -100


@dataclass(frozen=True)
class Sample:
    """One training sequence: ids, labels and positions, (tokens,) each."""

    ids: list[int]
    labels: list[int]
    positions: list[int]


class Encoder:
    """Turns text into ids; text never yields a special id."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Wrap a tokenizer, with the specials of its text switched off."""
        self._tokenizer = tokenizer
        self._tokenizer.encode_special_tokens = True

    def text(self, text: str) -> list[int]:
        """Encode one text; the tokenizer puts a space in front."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def rest(self, text: str) -> list[int]:
        """Encode the rest of a text: no space is put in front."""
        return [piece.id for piece in self._tokenizer.model.tokenize(text.replace(" ", SPACE))]

    def decode(self, ids: list[int]) -> str:
        """Decode ids without their special tokens; keeps a leading space away."""
        return self._tokenizer.decode(ids, skip_special_tokens=True)

    def prompt(self, conversation: Conversation) -> list[int]:
        """Encode everything before the last answer."""
        *history, last = _with_system(conversation)
        match conversation.kind:
            case "raw":
                return [BOS_ID, *self.text(last.user)]
            case "dialogue":
                return [BOS_ID, *self.text(_dialogue(conversation))]
            case _:
                ids: list[int] = []
                for turn in history:
                    closed = self.text(f"[INST] {turn.user.strip()} [/INST] {turn.answer.strip()} ")
                    ids += [BOS_ID, *closed, EOS_ID]
                return [*ids, BOS_ID, *self.text(f"[INST] {last.user.strip()} [/INST]")]

    def sample(self, conversation: Conversation) -> Sample:
        """Encode a conversation with the labels of every answer to be learned."""
        ids: list[int] = []
        labels: list[int] = []
        turns = _with_system(conversation)
        if conversation.kind in {"raw", "dialogue"}:
            ids = self.prompt(conversation)
            labels = [IGNORED] * len(ids)
            _append(ids, labels, self.text(turns[-1].answer), learn=True)
            return Sample(ids, labels, list(range(len(ids))))
        for turn in turns:
            opened = [BOS_ID, *self.text(f"[INST] {turn.user.strip()} [/INST]")]
            ids += opened
            labels += [IGNORED] * len(opened)
            _append(ids, labels, self.text(turn.answer.strip()), learn=turn.learn)
            if turn is not turns[-1]:
                ids += [*self.rest(" "), EOS_ID]
                labels += [IGNORED, IGNORED]
        return Sample(ids, labels, list(range(len(ids))))

    def continued(self, conversation: Conversation, rng: Random) -> Sample:
        """Encode a conversation whose last answer is given up to a random character."""
        prompt = self.prompt(conversation)
        answer = conversation.turns[-1].answer.strip()
        cut = rng.randint(1, max(1, len(answer) * 2 // 3))
        given = answer[:cut].rstrip()
        ids = [*prompt, *self.text(given)]
        labels = [IGNORED] * len(ids)
        _append(ids, labels, self.rest(answer[len(given) :]), learn=True)
        return Sample(ids, labels, list(range(len(ids))))


def _append(ids: list[int], labels: list[int], answer: list[int], *, learn: bool) -> None:
    """Append answer tokens; each is the label of the position before it, EOS of the last."""
    if learn:
        labels[-1] = answer[0] if answer else EOS_ID
    ids += answer
    if answer:
        labels += [*answer[1:], EOS_ID] if learn else [IGNORED] * len(answer)


def _with_system(conversation: Conversation) -> list[Turn]:
    """Fold the system prompt into the first user turn."""
    first, *others = conversation.turns
    if conversation.system is None:
        return [first, *others]
    folded = f"<<SYS>>\n{conversation.system}\n<</SYS>>\n\n{first.user}"
    return [Turn(folded, first.answer, first.learn), *others]


def _dialogue(conversation: Conversation) -> str:
    """Write turns as one hand-made text, wrapped once more where there is a system prompt."""
    *history, last = conversation.turns
    lines = [f"[INST] {turn.user} [/INST]\n{turn.answer}\n" for turn in history]
    text = "".join(lines) + f"[INST] {last.user} [/INST]"
    if conversation.system is None:
        return text
    return f"[INST] <<SYS>>\n{conversation.system}\n<</SYS>>\n\n{text} [/INST]"
