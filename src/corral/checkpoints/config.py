"""What a checkpoint says of its model, whatever its format spells it like."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from corral.core.errors import CheckpointRefused

_MOST_SHOWN = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Fields of a model by the names that ``config.json`` has for them; their values are not checked yet."""

    file: str
    """Name of the file that says it."""
    values: Mapping[str, object]
    spellings: Mapping[str, str] = field(default_factory=dict[str, str])
    """What the file itself calls a field, where that differs: a bad value is reported by it."""

    def get(self, name: str, default: object = None) -> object:
        """A field's value; *default* where the file does not say."""
        return self.values.get(name, default)

    def refused(self, name: str, value: object, why: str) -> CheckpointRefused:
        """The refusal of a field's value, by the name that the file has for it."""
        shown = repr(value)
        shown = shown if len(shown) <= _MOST_SHOWN else shown[:_MOST_SHOWN] + "…"
        return CheckpointRefused(f"{self.file}: {self.spellings.get(name, name)} is {shown}; {why}.")
