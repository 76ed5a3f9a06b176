"""Typing noise: casing, politeness, punctuation and small mistakes."""

import re
from random import Random

_PREFIXES = (
    "please ", "hey, ", "hi, ", "hello, ", "ok, ", "ok ", "well, ", "so ", "and ", "now ", "hi! ",
    "Hello! ", "quick question: ", "question: ", "um, ", "dear model, ", "corral, ", "excuse me, ",
    "just wondering, ", "tell me, ", "i was wondering, ", "can you tell me ", "could you tell me ",
    "do you know ", "i would like to know ", "i want to know ", "i have a question: ", "maybe you know ",
    "my question is: ", "ok so ", "next: ", "also, ", "let me ask: ", "please tell me ", "sorry, ",
)  # fmt: skip
_SUFFIXES = (" please", ", please", " thanks", ", thanks", " thank you", " now", " for me", " ok")
_QUESTION = re.compile(r"^(what|who|how|why|when|where|which|is|are|do|does|can|could|would|will|should)\b", re.I)
_MARKS_QUESTION = ("?", "?", "?", "?", "?", "", "", "", ".", " ?", "??", "!", "?!")
_MARKS_OTHER = (".", ".", ".", "", "", "", "!", "?", "...", "!!")


def disturb(text: str, rng: Random) -> str:
    """Return the text as another person might have typed it."""
    plain = text.isascii() and len(text) < 200
    if plain and rng.random() < 0.14 and len(text) > 8:
        text = rng.choice(_PREFIXES) + text
    if plain and rng.random() < 0.05 and len(text) > 8:
        text += rng.choice(_SUFFIXES)
    if plain and rng.random() < 0.08:
        text = _mistype(text, rng)
    text = _punctuate(text, rng)
    return _recase(text, rng)


def _mistype(text: str, rng: Random) -> str:
    """Drop, double or swap one letter of one longer word."""
    words = text.split(" ")
    long_words = [index for index, word in enumerate(words) if len(word) >= 4 and word.isalpha()]
    if not long_words:
        return text
    index = rng.choice(long_words)
    word = words[index]
    at = rng.randrange(1, len(word) - 1)
    words[index] = rng.choice(
        (
            word[:at] + word[at + 1 :],
            word[:at] + word[at] + word[at:],
            word[:at] + word[at + 1] + word[at] + word[at + 2 :],
        )
    )
    return " ".join(words)


def _punctuate(text: str, rng: Random) -> str:
    """End the text with a mark that fits its first word, or with none."""
    if not text or not text[-1].isalnum() or not text.isascii():
        return text
    return text + rng.choice(_MARKS_QUESTION if _QUESTION.match(text) else _MARKS_OTHER)


def _recase(text: str, rng: Random) -> str:
    """Capitalise the first letter, everything, every word, or nothing."""
    if rng.random() < 0.6:
        text = re.sub(r"\bi\b", "I", text)
    draw = rng.random()
    if draw < 0.52:
        return text[:1].upper() + text[1:]
    if draw < 0.90:
        return text
    if draw < 0.94:
        return text.lower()
    return text.upper() if draw < 0.97 else text.title()
