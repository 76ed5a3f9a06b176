"""Configuration of a model, read from a checkpoint of any format."""

import json
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

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
        """Create the error for the value of a field, with the field's name and the value as the file has them."""
        said = f"is {as_written(value)}" if name in self.values else "is missing"
        return CheckpointRefused(f"{self.file}: {self.spellings.get(name, name)} {said}; {why}.")


def as_list(value: object) -> list[object] | None:
    """Return a value if it is a list, else None."""
    return cast("list[object]", value) if isinstance(value, list) else None


def as_written(value: object) -> str:
    """Spell a value of a configuration in JSON (``null``, ``true``), shortened to fit in an error message."""
    shown = value
    if isinstance(value, list | array):
        shown = list(cast("list[object]", value[:_MOST_SHOWN]))  # all of it could be millions of numbers
    try:
        text = json.dumps(shown)
    except RecursionError:
        return "a deeply nested value"
    return text if len(text) <= _MOST_SHOWN else text[:_MOST_SHOWN] + "…"
