"""A small byte-level vocabulary, made here: every byte, merges learnt from a few sentences, control and text tokens.

Written in each family's form, as ``tokenizer.json`` and as metadata of a GGUF file.
"""

import json
from collections import Counter
from copy import deepcopy
from functools import cache
from itertools import pairwise
from typing import Any

from corral.checkpoints.tokenizers.byte_level import LETTERS

SENTENCES = (
    "The quick brown fox jumps over the lazy dog; it's 12:30, and we've 1,234 more. 'Tis what they'll say, isn't it?",
    "def run(self, x: int) -> list[int]:\n    return [n * 2 for n in range(x)]\n\n\nclass A(B):\n\tpass\n",
    "Größe, naïve café, el niño, Ωμέγα, Привет мир, 日本語のテキスト, 中文文本, 한국어, ภาษาไทย, العربية, हिन्दी",
    "    indented      text        with  many   spaces\r\n\r\n\r\n",
    '{"name": "value", "list": [1, 22, 333, 4444], "ok": true}',
    "\U0001f469\u200d\U0001f680 \U0001f600\U0001f600 \u2764\ufe0f caf\u00e9 cafe\u0301",
)
CONTROL = ("<|begin_of_text|>", "<|im_start|>", "<|im_end|>", "<|end_of_text|>", "[INST]")
TEXT = ("<think>", "</think>", "<tool_call>")
MERGES = 240

_LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _byte_level(*, use_regex: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


def _split(pattern: str) -> dict[str, Any]:
    step = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [step, _byte_level(use_regex=False)]}


PRE_TOKENIZERS: dict[str, dict[str, Any]] = {
    "gpt-2": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True},
    "llama-bpe": _split(_LLAMA_3),
    "smaug-bpe": _split(_LLAMA_3),
    "qwen2": _split(_LLAMA_3.replace("{1,3}", "")),
    "smollm": {
        "type": "Sequence",
        "pretokenizers": [{"type": "Digits", "individual_digits": True}, _byte_level(use_regex=True)],
    },
    "tekken": _split(_TEKKEN),
}
"""As the families' own ``tokenizer.json`` have them, by their names in GGUF files."""
IGNORE_MERGES = frozenset({"llama-bpe", "tekken"})
NFC = frozenset({"qwen2"})
LEADING = frozenset({"llama-bpe", "tekken"})
"""Families with BOS at the start of prompts."""


@cache
def merges() -> tuple[tuple[str, str], ...]:
    """Merges of the most frequent pairs, in the alphabet."""
    words = [list(spell(word.encode())) for sentence in SENTENCES for word in sentence.replace(" ", "\0 ").split("\0")]
    found: list[tuple[str, str]] = []
    while len(found) < MERGES:
        pairs = Counter(pair for word in words for pair in pairwise(word))
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        found.append(best)
        words = [_merged(word, best) for word in words]
    return tuple(found)


def spell(text: bytes) -> str:
    """Write bytes in the alphabet."""
    return "".join(LETTERS[byte] for byte in text)


def _merged(word: list[str], pair: tuple[str, str]) -> list[str]:
    out: list[str] = []
    for part in word:
        if out and (out[-1], part) == pair:
            out[-1] += part
        else:
            out.append(part)
    return out


def pieces() -> list[str]:
    """Control tokens, bytes, merged pieces and text tokens, by id."""
    return [*CONTROL, *LETTERS, *("".join(pair) for pair in merges()), *TEXT]


def byte_level_document(family: str) -> dict[str, Any]:
    """A ``tokenizer.json`` in the form in which a family's is published."""
    ids = {piece: token_id for token_id, piece in enumerate(pieces())}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [
        {"id": ids[content], "content": content, **flags, "special": content in CONTROL}
        for content in (*CONTROL, *TEXT)
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "NFC"} if family in NFC else None,
        "pre_tokenizer": deepcopy(PRE_TOKENIZERS[family]),
        "post_processor": _template(CONTROL[0], 0) if family in LEADING else None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": family in IGNORE_MERGES,
            "vocab": {piece: token_id for piece, token_id in ids.items() if piece not in (*CONTROL, *TEXT)},
            "merges": [list(pair) for pair in merges()],
        },
    }


def _template(bos: str, bos_id: int) -> dict[str, Any]:
    parts = [{"SpecialToken": {"id": bos, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    tokens = {bos: {"id": bos, "ids": [bos_id], "tokens": [bos]}}
    template = {"type": "TemplateProcessing", "single": parts, "pair": parts, "special_tokens": tokens}
    return {"type": "Sequence", "processors": [_byte_level(use_regex=True), template]}


def byte_level_config() -> dict[str, Any]:
    """The ``tokenizer_config.json`` beside it."""
    return {"bos_token": CONTROL[0], "eos_token": {"content": CONTROL[2], "special": True}, "pad_token": CONTROL[3]}


def byte_level_metadata(family: str) -> dict[str, object]:
    """The metadata that llama.cpp's converter makes of it, with two tokens of padding."""
    spelled = pieces()
    kinds = [3 if piece in CONTROL else 4 if piece in TEXT else 1 for piece in spelled]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": family,
        "tokenizer.ggml.tokens": [*spelled, "[PAD0]", "[PAD1]"],
        "tokenizer.ggml.token_type": [*kinds, 5, 5],
        "tokenizer.ggml.merges": [" ".join(pair) for pair in merges()],
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 2,
    }


def byte_level_bytes(family: str) -> bytes:
    """The serialized ``tokenizer.json``."""
    return json.dumps(byte_level_document(family)).encode()
