"""Two thousand strings that tokenizers disagree on, always the same."""

import random
from collections.abc import Callable
from functools import cache

COUNT = 2_000
_SEED = 20_24
_WRITTEN = (
    "",
    " ",
    "\n",
    "\t",
    "\0",
    "\ufffd",
    "\u2028",
    "\u2029",
    "\u0085",
    "\u00a0",
    "\u3000",
    "\ufeff",
    "\r\n\r\n",
    "a\r\nb",
    "\n \n\n \n\n\n \t \t\t \t\n  \n   \n",
    "it's we've I'm they'll she'd you're IT'S WE'VE I'M '\u017f 'LL",
    "'s't're've'm'll'd",
    "e\u0301 \u00e9 \u1100\u1161\u11a8 \uac01 \u212b \u00c5 A\u030a \u0f73 \u0344 \u1f82 \u03b1\u0313\u0300\u0345",
    "a\u0323\u0307 a\u0307\u0323 \u1e0a\u0323 \u0041\u0300\u0301\u0302",
    "1 12 123 1234 12345 1,234,567.89 \u0661\u0662\u0663 \u2460\u2461 \u00bd \u2163 \U0001d7d8",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466",
    "\U0001f3f3\ufe0f\u200d\U0001f308 \U0001f1e9\U0001f1ea \U0001f44d\U0001f3fd \u2764\ufe0f \u0031\ufe0f\u20e3",
    "<|im_start|>user\nHi<|im_end|>\n<|begin_of_text|><|eot_id|><|endoftext|><|end_of_text|>",
    "<s></s><unk><pad>[INST] [/INST] [AVAILABLE_TOOLS]<SPECIAL_1><0x0A><|fim_prefix|><repo_name><reponame>",
    "< | im_end | > <|im_end |> <|im_end<|im_end|>|>",
    "\u2581\u2581a\u2581 \u0120a \u010a",
    "https://example.org/a?b=c&d=%20#e f@g.h --long-option=1 C:\\path\\to\\file.txt",
    "camelCaseWord snake_case_word SCREAMING_CASE kebab-case-word MixedUPPERlower\u01c5\u01c6\u02b0\u00aa",
    "!!!???...///---___***###$$$%%%^^^&&&((()))[[[]]]{{{}}}|||~~~```",
    '{"a": [1, 2.5e-10, null, true], "b": {"c": "\\u00e9\\n"}}',
    "for (int i = 0; i < n; ++i) {\n\t\tsum += a[i] * b[i];\n\t}\n\n\n    return sum;\n}\n",
    "\u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22\u0e44\u0e21\u0e48\u0e21\u0e35\u0e0a\u0e48\u0e2d\u0e07\u0e27\u0e48\u0e32\u0e07",
    "\u0627\u0644\u0639\u064e\u0631\u064e\u0628\u0650\u064a\u064e\u0651\u0629\u064f",
    "\u05e2\u05b4\u05d1\u05b0\u05e8\u05b4\u05d9\u05ea",
    "\u65e5\u672c\u8a9e\u3068\u4e2d\u6587\u3001\ud55c\uad6d\uc5b4\u3002\uff21\uff22\uff43\uff11\uff12\uff13\uff01",
    "\u0939\u093f\u0928\u094d\u0926\u0940 \u0ba4\u0bae\u0bbf\u0bb4\u0bcd \u1780\u17b6\u1793\u17cb",
    "\U00020000\U0002a6d6 \U0001f9e0 \U0010ffff \ue000 \U000e0001\U000e0041",
    "\u200b\u200c\u200d\u2060\u00ad\u202e\u202d\u2066\u2069 zero width",
    "\x01\x02\x07\x08\x0b\x0c\x1b[31mred\x1b[0m\x7f\x80\x9f",
    "=" * 100,
    " " * 100 + "x",
    "x" + " " * 100,
    "\n" * 50,
    " \n" * 40,
    "\t" * 40 + "y",
    "ab" * 200,
    "0" * 101,
)
_RANGES = (
    (0x20, 0x7E),
    (0x20, 0x7E),
    (0x00, 0x24F),
    (0x250, 0x36F),
    (0x370, 0x5FF),
    (0x600, 0x6FF),
    (0x900, 0xDFF),
    (0xE00, 0xEFF),
    (0x1000, 0x1FFF),
    (0x2000, 0x2BFF),
    (0x3000, 0x30FF),
    (0x4E00, 0x9FFF),
    (0xAC00, 0xD7A3),
    (0xFE00, 0xFFFD),
    (0x1D400, 0x1D7FF),
    (0x1F300, 0x1FAFF),
    (0x20000, 0x2A6D6),
)
_WORDS = (
    *("the", "The", "THE", " the", "don't", "DON'T", "I'll", "na\u00efve", "\u041f\u0440\u0438\u0432\u0435\u0442"),
    *("import os", "def f(", "):\n    ", "return", "!=", "=>", "</div>", "0x1F", "3.14", "1,000", "\u00b2", "http://"),
    *(
        "\U0001f600",
        "\U0001f468\u200d\U0001f4bb",
        "\u0301",
        "\u200d",
        "\ufe0f",
        "\u65e5\u672c",
        "\u0e01\u0e33",
        "\u0644\u0627",
    ),
    *(
        "<|im_end|>",
        "<|eot_id|>",
        "</s>",
        "[INST]",
        "<think>",
        "\u2028",
        "\0",
        "\r",
        "\r\n",
        "\n\n",
        "\t",
        "  ",
        "    ",
    ),
    *("'", '"', "`", "-", "_", "/", "\\", ".", ",", ";", "\u2014", "\u2026", "\u3002", "\uff0c", "\u00bf"),
)


@cache
def hard_strings() -> tuple[str, ...]:
    """Written by hand, and drawn at random: of characters by script, of words, of spaces, of look-alikes."""
    draw = random.Random(_SEED)
    makers: tuple[Callable[[random.Random], str], ...] = (
        _of_characters,
        _of_scripts,
        _of_words,
        _of_spaces,
        _of_digits,
    )
    found = dict.fromkeys(_WRITTEN)
    while len(found) < COUNT:
        found[makers[len(found) % len(makers)](draw)] = None
    return tuple(found)


def _character(draw: random.Random) -> str:
    first, last = _RANGES[draw.randrange(len(_RANGES))]
    return chr(draw.randrange(first, last + 1))


def _of_characters(draw: random.Random) -> str:
    return "".join(_character(draw) for _ in range(draw.randrange(1, 40)))


def _of_scripts(draw: random.Random) -> str:
    """Runs of one script each."""
    parts: list[str] = []
    for _ in range(draw.randrange(1, 8)):
        first, last = _RANGES[draw.randrange(len(_RANGES))]
        parts.append("".join(chr(draw.randrange(first, last + 1)) for _ in range(draw.randrange(1, 12))))
    return draw.choice(("", " ", "\n")).join(parts)


def _of_words(draw: random.Random) -> str:
    return "".join(
        _WORDS[draw.randrange(len(_WORDS))] + draw.choice(("", "", " ")) for _ in range(draw.randrange(1, 20))
    )


def _of_spaces(draw: random.Random) -> str:
    spaces = " \n\t\r\u00a0\u2028\u3000\u000b"
    return "".join(
        spaces[draw.randrange(len(spaces))] * draw.randrange(1, 9) + draw.choice(("", "a", "'s", "7", "!"))
        for _ in range(draw.randrange(1, 12))
    )


def _of_digits(draw: random.Random) -> str:
    digits = "0123456789\u0663\u00bd\uff17.,'sStTdD -+eE"
    return "".join(digits[draw.randrange(len(digits))] for _ in range(draw.randrange(1, 50)))
