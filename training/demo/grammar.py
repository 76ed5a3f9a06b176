"""A tiny grammar: "{a|b}" picks a branch, "$name" picks from a named word list."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

_CHOICE = re.compile(r"\{([^{}]*)\}")
_SLOT = re.compile(r"\$([a-z0-9]+)")
_SPACES = re.compile(r" {2,}")


@dataclass(frozen=True)
class Grammar:
    """Expands patterns with word lists; ``syllables`` build the made-up words of "$noise"."""

    lists: Mapping[str, Sequence[str]]
    syllables: Sequence[str]

    def expand(self, pattern: str, rng: Random) -> str:
        """Return one random sentence of the pattern."""
        text = pattern
        while _CHOICE.search(text):
            text = _CHOICE.sub(lambda found: rng.choice(found.group(1).split("|")), text)
        text = _SLOT.sub(lambda found: self._slot(found.group(1), rng), text)
        return _SPACES.sub(" ", text).strip()

    def _slot(self, name: str, rng: Random) -> str:
        if name == "noise":
            return "".join(rng.choice(self.syllables) for _ in range(rng.randint(1, 4)))
        if name == "number":
            return str(rng.randint(1, 9))
        return rng.choice(self.lists[name])
