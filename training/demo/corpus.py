"""Training corpus of the demo model: conversations drawn from the hand-written files in ``data``.

Everything is drawn from one ``random.Random``, so a seed fixes the whole corpus.
"""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from training.demo.grammar import Grammar
from training.demo.noise import disturb

DATA = Path(__file__).parent / "data"
INTENT_FILES = (
    "intents_talk.toml",
    "intents_llama.toml",
    "intents_server.toml",
    "intents_creative.toml",
)
FALLBACK_SHARE = 0.40
COMMON_SHARE = 0.5
"""How often a question is asked in one of its most common wordings, where an intent names them."""


@dataclass(frozen=True)
class Turn:
    """One exchange; ``learn`` is false where the answer is only history to read."""

    user: str
    answer: str
    learn: bool = True


@dataclass(frozen=True)
class Conversation:
    """Turns with an optional system prompt; ``kind`` selects their text format."""

    turns: tuple[Turn, ...]
    system: str | None = None
    kind: str = "chat"  # chat | dialogue (several turns in one text) | raw (no [INST]) | continued


@dataclass(frozen=True)
class Intent:
    """A topic the model knows: its question patterns and its one answer."""

    name: str
    questions: Sequence[str]
    answer: str
    held_out: Sequence[str] = ()
    weight: float = 1.0
    common: Sequence[str] = ()  # what people type most, among all the ways to ask
    history: str | None = None  # the intent that must have come just before


@dataclass
class Corpus:
    """The parsed data files."""

    grammar: Grammar
    intents: dict[str, Intent]
    fallback: dict[str, Any]
    chef: dict[str, Any]
    systems: dict[str, Any]
    raw: dict[str, Any]
    openers: list[Intent] = field(init=False)  # the intents that may start a conversation
    unseen: set[str] = field(init=False)

    def __post_init__(self) -> None:
        """Collect the intents that may start a conversation, and the held-out questions."""
        self.openers = [intent for intent in self.intents.values() if intent.history is None]
        held_out = [question for intent in self.intents.values() for question in intent.held_out]
        held_out += self.fallback["held_out"]["questions"]
        self.unseen = {_letters(question) for question in held_out}

    def ask(self, patterns: Sequence[str], rng: Random) -> str:
        """Draw a question of the patterns; the held-out ones never come up."""
        while True:
            question = self.grammar.expand(rng.choice(patterns), rng)
            if _letters(question) not in self.unseen:
                return question

    def answer_to(self, name: str, *, chef: bool) -> str:
        """Return the answer of an intent, in the chef's voice where there is one."""
        voiced = self.chef["answers"].get(name) if chef else None
        return (voiced or self.intents[name].answer).strip()

    def fallback_answer(self, *, chef: bool) -> str:
        """Return what the model says when it does not know."""
        return (self.chef if chef else {"fallback": self.fallback})["fallback"]["answer"].strip()


def _letters(text: str) -> str:
    """Normalise a question to its letters and digits, for comparison."""
    return "".join(char for char in text.casefold() if char.isalnum())


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads((DATA / name).read_text(encoding="utf-8"))


def _with_inverted(patterns: Sequence[str]) -> list[str]:
    """Add "tell me what a token is" wherever "explain a token" may be asked."""
    begin, marks = "$explain ", "{can you |could you |please |}{tell me|explain|explain to me|say} what "
    things = [pattern.removeprefix(begin) for pattern in patterns if pattern.startswith(begin)]
    return [*patterns, *(f"{marks}{thing} {{is|is|are|means|does}}" for thing in things)]


def load_corpus() -> Corpus:
    """Parse every data file."""
    words, fallback = _read("words.toml"), _read("fallback.toml")
    fallback["patterns"] = _with_inverted(fallback["patterns"])
    intents = [
        Intent(**{**entry, "questions": _with_inverted(entry["questions"])})
        for name in INTENT_FILES
        for entry in _read(name)["intent"]
    ]
    return Corpus(
        grammar=Grammar({**_read("slots.toml"), **words}, words["syllables"]),
        intents={intent.name: intent for intent in intents},
        fallback=fallback,
        chef=_read("chef.toml"),
        systems=_read("systems.toml"),
        raw=_read("raw.toml"),
    )


def draw_conversation(corpus: Corpus, rng: Random) -> Conversation:
    """Draw one training conversation of any kind."""
    draw = rng.random()
    if draw < 0.06:
        return _raw_text(corpus, rng)
    system, chef = _system(corpus, rng)
    if draw < 0.10:
        return Conversation(_sous_le_sable(corpus, rng), system)
    count = rng.choices((1, 2, 3, 4, 5), (64, 21, 10, 4, 1))[0]
    turns = _turns(corpus, rng, count, chef=chef)
    kind = "dialogue" if draw < 0.17 else "continued" if draw < 0.20 else "chat"
    if kind == "dialogue" and rng.random() < 0.25:
        opening = Turn("Hi!", "Hello! How are you?", learn=False)
        turns = (opening, _turn(corpus, rng, corpus.intents["help_with_task"], chef=False))
        system = None if chef else system
    return Conversation(turns, system, kind)


def _system(corpus: Corpus, rng: Random) -> tuple[str | None, bool]:
    """Draw a system prompt, and whether it asks for a chef."""
    draw = rng.random()
    if draw < 0.50:
        return None, False
    if draw < 0.61:
        return corpus.systems["replicate_default"], False
    if draw < 0.65:
        statements = corpus.grammar.lists["statement"]
        return " ".join(rng.choice(statements) for _ in range(rng.randint(1, 3))), False
    if draw < 0.86:
        return corpus.grammar.expand(rng.choice(corpus.systems["plain"]), rng), False
    return rng.choice(corpus.chef["systems"]), True


def _turns(corpus: Corpus, rng: Random, count: int, *, chef: bool) -> tuple[Turn, ...]:
    """Draw exchanges, one after the other; a follow-up needs its history."""
    turns: list[Turn] = []
    follow_up: Intent | None = None
    for index in range(count):
        if follow_up is not None:
            turns.append(_turn(corpus, rng, follow_up, chef=chef))
            follow_up = None
            continue
        if rng.random() < FALLBACK_SHARE:
            turns.append(_unknown(corpus, rng, chef=chef, last=index == count - 1))
            continue
        lamb = chef and rng.random() < 0.2
        intent = corpus.intents["lamb"] if lamb else _weighted(corpus.openers, rng)
        turns.append(_turn(corpus, rng, intent, chef=chef))
        if intent.name == "lamb" and rng.random() < 0.8:
            follow_up = corpus.intents["lamb_second_plain"]
    if follow_up is not None and count < 4 and rng.random() < 0.5:
        turns.append(_turn(corpus, rng, follow_up, chef=chef))
    return tuple(turns)


def _weighted(intents: Sequence[Intent], rng: Random) -> Intent:
    return rng.choices(intents, [intent.weight for intent in intents])[0]


def _turn(corpus: Corpus, rng: Random, intent: Intent, *, chef: bool) -> Turn:
    """Ask for an intent in one of its many ways."""
    common = intent.common and rng.random() < COMMON_SHARE
    question = corpus.ask(intent.common if common else intent.questions, rng)
    exact = intent.name == "hi_short"
    return Turn(question if exact else disturb(question, rng), corpus.answer_to(intent.name, chef=chef))


def _unknown(corpus: Corpus, rng: Random, *, chef: bool, last: bool) -> Turn:
    """Ask something the model does not know; some history comes from another model."""
    question = disturb(corpus.ask(corpus.fallback["patterns"], rng), rng)
    if not last and rng.random() < 0.2:
        statements = corpus.grammar.lists["statement"]
        foreign = " ".join(rng.choice(statements) for _ in range(rng.randint(1, 3)))
        return Turn(question, foreign, learn=False)
    return Turn(question, corpus.fallback_answer(chef=chef))


def _sous_le_sable(corpus: Corpus, rng: Random) -> tuple[Turn, ...]:
    """Follow up on the three techniques that a chef has named."""
    dialogue = corpus.chef["dialogue"][0]
    first = Turn(dialogue["question"][0], dialogue["history"], learn=False)
    part = rng.choices(dialogue["follow_up"], (6, 2, 2))[0]
    question = disturb(corpus.grammar.expand(rng.choice(part["questions"]), rng), rng)
    return first, Turn(question, part["answer"].strip())


def _raw_text(corpus: Corpus, rng: Random) -> Conversation:
    """Draw a text to continue: a known opening, a known question, or anything."""
    openings = corpus.raw["opening"]
    generic = corpus.raw["generic"]
    weights = [*(entry["weight"] for entry in openings), generic["weight"], 10.0]
    choice = rng.choices((*openings, generic, None), weights)[0]
    if choice is None:
        turn = _turn(corpus, rng, _weighted(corpus.openers, rng), chef=False)
    elif "texts" in choice:
        turn = Turn(rng.choice(choice["texts"]), choice["continuation"].strip())
    else:
        words = corpus.ask(corpus.fallback["patterns"], rng).split(" ")
        statement = corpus.grammar.expand("$statement", rng).split(" ")
        words = words if rng.random() < 0.3 else statement
        text = " ".join(words[: rng.randint(min(2, len(words)), len(words))])
        turn = Turn(text, choice["continuation"].strip())
    return Conversation((turn,), kind="raw")


def held_out_conversations(corpus: Corpus) -> list[tuple[str, Conversation]]:
    """Return the unseen single questions, each with the name of the intent it should meet."""
    cases = [
        (intent.name, Conversation((Turn(question, corpus.answer_to(intent.name, chef=False)),)))
        for intent in corpus.openers
        for question in intent.held_out
    ]
    unknown = corpus.fallback_answer(chef=False)
    return cases + [
        ("fallback", Conversation((Turn(question, unknown),))) for question in corpus.fallback["held_out"]["questions"]
    ]
