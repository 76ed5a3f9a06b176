"""Allowed ranges of numeric inputs, for engines and for each API.

The ranges of Replicate's and DeepInfra's inputs are in ``inputs.toml`` of each door. ``InputField.accepted`` limits
them further to the ranges below where those APIs state none.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A range of finite numbers; a bound of None is unbounded."""

    minimum: float | None = None
    maximum: float | None = None
    exclusive_minimum: float | None = None
    exclusive_maximum: float | None = None

    def holds(self, number: float) -> bool:
        """Return whether *number* is finite and within the bounds. Integers of any size are compared exactly."""
        return (
            (isinstance(number, int) or isfinite(number))
            and (self.minimum is None or number >= self.minimum)
            and (self.maximum is None or number <= self.maximum)
            and (self.exclusive_minimum is None or number > self.exclusive_minimum)
            and (self.exclusive_maximum is None or number < self.exclusive_maximum)
        )

    def within(self, outer: "Range") -> "Range":
        """Return the intersection of this range and *outer*."""
        return Range(
            minimum=_higher(self.minimum, outer.minimum),
            maximum=_lower(self.maximum, outer.maximum),
            exclusive_minimum=_higher(self.exclusive_minimum, outer.exclusive_minimum),
            exclusive_maximum=_lower(self.exclusive_maximum, outer.exclusive_maximum),
        )

    def __str__(self) -> str:
        """Describe the range to follow "must be": ``at least 0 and at most 2``."""
        named = {
            "at least": self.minimum,
            "above": self.exclusive_minimum,
            "at most": self.maximum,
            "below": self.exclusive_maximum,
        }
        parts = [f"{words} {format_bound(bound)}" for words, bound in named.items() if bound is not None]
        return " and ".join(parts) or "finite"


def format_bound(bound: float) -> str:
    """Format a bound with all its digits: 2 to the 64th is ``18446744073709551616``."""
    return str(int(bound)) if bound == int(bound) else repr(bound)


def _higher(one: float | None, other: float | None) -> float | None:
    return max((bound for bound in (one, other) if bound is not None), default=None)


def _lower(one: float | None, other: float | None) -> float | None:
    return min((bound for bound in (one, other) if bound is not None), default=None)


SAMPLING: Final[Mapping[str, Range]] = MappingProxyType(
    {
        "temperature": Range(minimum=0),
        "top_p": Range(exclusive_minimum=0, maximum=1),
        "top_k": Range(minimum=0, exclusive_maximum=2**31),
        "min_p": Range(minimum=0, exclusive_maximum=1),
        "repetition_penalty": Range(minimum=0.01, maximum=100),
        "presence_penalty": Range(minimum=-2, maximum=2),
        "frequency_penalty": Range(minimum=-2, maximum=2),
    }
)
"""Ranges that engines support. Measured on OpenVINO GenAI, which computes with float32: it refuses a
``repetition_penalty`` below 1e-45, overflows below 1e-37, and outside 0.01 to 100 the text no longer changes.
Temperatures have no such limits: below 1e-4 decoding is greedy."""

SEED: Final = Range(minimum=-(2**63), maximum=2**64)
"""Seeds are reduced modulo 2**64. The range is that of DeepInfra's API, which includes 2**64."""

COUNT: Final = Range(minimum=-(2**63), maximum=2**63 - 1)
"""Range of the database's integers: for integers for which an API states no range."""

OPENAI: Final[Mapping[str, Range]] = MappingProxyType(
    {
        "temperature": Range(minimum=0, maximum=2),
        "top_p": Range(exclusive_minimum=0, maximum=1),
        "top_k": Range(minimum=0, exclusive_maximum=1000),
        "min_p": Range(minimum=0, maximum=1),
        "presence_penalty": SAMPLING["presence_penalty"],
        "frequency_penalty": SAMPLING["frequency_penalty"],
        "repetition_penalty": Range(minimum=0.01, maximum=5),
        "max_tokens": Range(minimum=0, maximum=1_000_000),
        "seed": SEED,
        "n": Range(minimum=1, maximum=4),
        "logprobs": Range(minimum=0, maximum=20),
        "best_of": Range(minimum=1, maximum=20),
        "token_id": Range(minimum=0, exclusive_maximum=2**31),
    }
)
"""Ranges of the OpenAI routes, as published by DeepInfra for its own. A ``max_tokens`` of 0 needs ``echo``."""

UNSTATED: Final[Mapping[str, Range]] = MappingProxyType(
    {
        "seed": SEED,
        **{name: SAMPLING[name] for name in ("repetition_penalty", "presence_penalty", "frequency_penalty")},
    }
)
"""Ranges of inputs for which the API states no bounds, or bounds that engines do not support."""

MAX_USD: Final = 10**9
"""Largest accepted amount in dollars; its nano-dollars fit 64 bits."""
