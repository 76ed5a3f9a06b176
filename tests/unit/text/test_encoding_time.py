"""Hostile texts of megabytes are encoded in linear time, and keep the ids that they have in parts."""

import time
from collections.abc import Callable

import pytest

from corral.text.tokenizer import Tokenizer
from tests.byte_level_vocabulary import PRE_TOKENIZERS, byte_level_bytes
from tests.documents import from_json

SMALL, LARGE = 20_000, 160_000
MOST_GROWTH = 4 * LARGE / SMALL
"""Four times linear; a quadratic step would give eight times linear."""
HOSTILE: dict[str, Callable[[int], str]] = {
    "spaces before a letter": lambda n: " " * n + "x",
    "spaces and line breaks": lambda n: " \n" * (n // 2),
    "spaces that end nowhere": lambda n: "\u00a0 " * (n // 2),
    "one word": lambda n: "a" * n,
    "capitals": lambda n: "A" * n,
    "letters without case among capitals": lambda n: ("\u30a2" + "A" * 99) * (n // 100),
    "digits": lambda n: "7" * n,
    "punctuation": lambda n: "!" * n,
    "apostrophes": lambda n: "'" * n,
    "combining marks": lambda n: "e" + "\u0323\u0301" * (n // 2),
    "letters to be joined": lambda n: "\u1100\u1161\u11a8" * (n // 3),
    "emoji": lambda n: "\U0001f469\u200d" * (n // 2),
    "beginnings of text tokens": lambda n: "<think" * (n // 6),
    "text tokens": lambda n: "<think>" * (n // 7),
    "replacement characters": lambda n: "\ufffd" * n,
}


def encode_cpu_s(tokenizer: Tokenizer, text: str) -> float:
    """The least processor time of two tries."""
    tries: list[float] = []
    for _ in range(2):
        began = time.process_time()
        tokenizer.encode(text)
        tries.append(time.process_time() - began)
    return min(tries)


@pytest.mark.parametrize("family", [family for family in PRE_TOKENIZERS if family != "smaug-bpe"])
def test_time_grows_with_the_length(family: str) -> None:
    tokenizer = from_json(byte_level_bytes(family))
    for name, make in HOSTILE.items():
        small, large = encode_cpu_s(tokenizer, make(SMALL)), encode_cpu_s(tokenizer, make(LARGE))
        assert large < MOST_GROWTH * max(small, 0.002), (name, small, large)


@pytest.mark.parametrize(
    ("family", "text"),
    [("llama-bpe", " " * 11_000_000 + "x"), ("tekken", "A" * 11_000_000)],
    ids=["spaces", "capitals"],
)
def test_words_beyond_the_limit_of_the_librarys_expressions_are_encoded(family: str, text: str) -> None:
    tokenizer = from_json(byte_level_bytes(family))
    ids = tokenizer.encode(text)
    assert len(ids) * tokenizer.longest_piece_chars >= len(text)
    assert b"".join(map(tokenizer.piece_bytes, ids)).decode() == text


@pytest.mark.parametrize("family", [family for family in PRE_TOKENIZERS if family != "smaug-bpe"])
def test_long_texts_have_the_ids_of_their_paragraphs(family: str) -> None:
    tokenizer = from_json(byte_level_bytes(family))
    paragraph = (
        "\n\nThe quick brown fox's 1234 days,  it jumps\tover!\n  caf\u00e9 \u65e5\u672c\u8a9e (def f(x): return x) end"
    )
    count = 3 * 2**20 // len(paragraph)
    assert tokenizer.encode(paragraph * count) == tokenizer.encode(paragraph) * count
