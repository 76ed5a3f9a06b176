"""How byte-level vocabularies cut text into words before merges, for each family.

A pattern in a checkpoint is never used, because a regular expression can need quadratic time or more. It is only
compared with those here, whose time is linear.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from corral.checkpoints.config import as_written
from corral.checkpoints.tokenizers.fields import Fields

_CONTRACTIONS: Final = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORD: Final = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_PUNCTUATION: Final = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_SPACES: Final = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER: Final = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER: Final = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Splitting:
    """Steps that cut text into words. No merge crosses the border of a word."""

    name: str
    pattern: str | None
    """Regular expression that matches one word; None for GPT-2's, which the library contains."""
    single_digits: bool = False
    """Each digit is a word, before the pattern is applied."""


GPT2: Final = Splitting(name="gpt-2", pattern=None)
SMOLLM: Final = Splitting(name="smollm", pattern=None, single_digits=True)
LLAMA3: Final = Splitting(
    name="llama-3", pattern=f"{_CONTRACTIONS}|{_WORD}|" + r"\p{N}{1,3}" + f"|{_PUNCTUATION}|{_SPACES}"
)
QWEN2: Final = Splitting(name="qwen2", pattern=f"{_CONTRACTIONS}|{_WORD}|" + r"\p{N}" + f"|{_PUNCTUATION}|{_SPACES}")
TEKKEN: Final = Splitting(
    name="tekken",
    pattern=r"[^\r\n\p{L}\p{N}]?" + f"{_UPPER}*{_LOWER}+|" + r"[^\r\n\p{L}\p{N}]?" + f"{_UPPER}+{_LOWER}*|"
    r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + _SPACES,
)
_BY_PATTERN: Final = {splitting.pattern: splitting for splitting in (LLAMA3, QWEN2, TEKKEN)}


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufFamily:
    """What ``tokenizer.ggml.pre`` of a GGUF file stands for."""

    splitting: Splitting
    nfc: bool = False
    """Text is normalized to NFC first."""
    ignore_merges: bool = False
    """A word that is a piece becomes this piece, whatever the merges would make of it."""
    adds_bos: bool = False
    """BOS leads a prompt unless the file says otherwise."""


_LLAMA3_FAMILY: Final = GgufFamily(splitting=LLAMA3, ignore_merges=True, adds_bos=True)
GGUF_FAMILIES: Final[Mapping[str, GgufFamily]] = {
    "gpt-2": GgufFamily(splitting=GPT2),
    "llama-bpe": _LLAMA3_FAMILY,
    "llama-v3": _LLAMA3_FAMILY,
    "llama3": _LLAMA3_FAMILY,
    "qwen2": GgufFamily(splitting=QWEN2, nfc=True),
    "smaug-bpe": replace(_LLAMA3_FAMILY, ignore_merges=False, adds_bos=False),
    "smollm": GgufFamily(splitting=SMOLLM),
    "tekken": GgufFamily(splitting=TEKKEN, ignore_merges=True, adds_bos=True),
}
"""By the value of ``tokenizer.ggml.pre``."""


def is_byte_level(pre_tokenizer: Fields | None) -> bool:
    """Return whether a ``pre_tokenizer`` of ``tokenizer.json`` writes text as bytes."""
    return pre_tokenizer is not None and any(step.get("type") == "ByteLevel" for step in _steps(pre_tokenizer))


def recognise(pre_tokenizer: Fields) -> Splitting:
    """Find the splitting that a ``pre_tokenizer`` of ``tokenizer.json`` describes.

    Raises:
        CheckpointRefused: it describes none of the known ones; the message names field and value.
    """
    steps = _steps(pre_tokenizer)
    match [step.get("type") for step in steps]:
        case ["ByteLevel"]:
            found = GPT2
        case ["Digits", "ByteLevel"]:
            _require(steps[0], "individual_digits", value=True, default=False)
            found = SMOLLM
        case ["Split", "ByteLevel"]:
            found = _by_pattern(steps[0])
        case _:
            raise pre_tokenizer.refused(
                "pretokenizers", "only ByteLevel alone, or after one Digits or one Split step, is supported"
            )
    _require(steps[-1], "add_prefix_space", value=False, default=True)
    _require(steps[-1], "use_regex", value=found.pattern is None, default=True)
    return found


def pre_tokenizer_document(splitting: Splitting) -> dict[str, object]:
    """Write a splitting as the ``pre_tokenizer`` of a ``tokenizer.json``."""
    last = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": splitting.pattern is None}
    steps: list[dict[str, object]] = []
    if splitting.single_digits:
        steps.append({"type": "Digits", "individual_digits": True})
    if splitting.pattern is not None:
        pattern = {"Regex": splitting.pattern}
        steps.append({"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False})
    return {"type": "Sequence", "pretokenizers": [*steps, last]}


def _steps(pre_tokenizer: Fields) -> Sequence[Fields]:
    return pre_tokenizer.members("pretokenizers") if pre_tokenizer.get("type") == "Sequence" else [pre_tokenizer]


def _by_pattern(split: Fields) -> Splitting:
    if split.get("behavior") != "Isolated":
        raise split.refused("behavior", "only Isolated is supported")
    _require(split, "invert", value=False, default=False)
    pattern = split.member("pattern")
    regex = None if pattern is None else pattern.text("Regex")
    found = None if regex is None else _BY_PATTERN.get(regex)
    if found is None:
        known = ", ".join(splitting.name for splitting in _BY_PATTERN.values())
        raise split.refused("pattern", f"only the patterns of these families are supported: {known}")
    return found


def _require(step: Fields, name: str, *, value: bool, default: bool) -> None:
    if step.flag(name, default=default) != value:
        raise step.refused(name, f"only {as_written(value)} is supported here")
