"""Configuration of a model, read from a checkpoint of any format."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from corral.core.errors import CheckpointRefused

_MOST_SHOWN = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Configuration fields of a model by their names in ``config.json``. The values are not checked."""

    file: str
    """Name of the file that contains them."""
    values: Mapping[str, object]
    spellings: Mapping[str, str] = field(default_factory=dict[str, str])
    """Names of fields in the file where they differ from ``config.json``; used in error messages."""

    def get(self, name: str, default: object = None) -> object:
        """Get the value of a field, or *default* if the file does not have it."""
        return self.values.get(name, default)

    def refused(self, name: str, value: object, why: str) -> CheckpointRefused:
        """Create the error for the value of a field, with the field's name in the file."""
        shown = repr(value)
        shown = shown if len(shown) <= _MOST_SHOWN else shown[:_MOST_SHOWN] + "…"
        return CheckpointRefused(f"{self.file}: {self.spellings.get(name, name)} is {shown}; {why}.")
