"""Typed access to the fields of an untrusted JSON document."""

from collections.abc import Mapping, Sequence
from typing import cast

from corral.checkpoints.config import as_written
from corral.core.errors import CheckpointRefused


class Fields:
    """An object of a JSON document. Reading a field checks its type; a missing field has the default value."""

    def __init__(self, values: Mapping[str, object], *, file: str, path: str = "") -> None:
        """Wrap an object.

        Args:
            values: its members.
            file: name of the document, for error messages.
            path: field in which the object is, ``""`` for the document itself.
        """
        self.file = file
        self.values = values
        self._path = path

    def get(self, name: str, default: object = None) -> object:
        """Get a field of any type."""
        return self.values.get(name, default)

    def text(self, name: str, default: str | None = None) -> str | None:
        """Get a string; null is as good as missing."""
        value = self.values.get(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.refused(name, "only a string is supported")
        return value

    def required_text(self, name: str) -> str:
        """Get a string that must be there."""
        value = self.text(name)
        if value is None:
            raise self.refused(name, "a string is needed")
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        """Get a truth value; null is as good as missing."""
        value = self.values.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.refused(name, "only true and false are supported")
        return value

    def member(self, name: str) -> "Fields | None":
        """Get an object; None if it is missing or null."""
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.refused(name, "an object is needed")
        return Fields(cast("dict[str, object]", value), file=self.file, path=self.field(name))

    def members(self, name: str) -> "Sequence[Fields]":
        """Get a list of objects; empty if it is missing or null."""
        found: list[Fields] = []
        for index, value in enumerate(self.items(name)):
            at = f"{self.field(name)}[{index}]"
            if not isinstance(value, dict):
                raise CheckpointRefused(f"{self.file}: {at} is {as_written(value)}; an object is needed.")
            found.append(Fields(cast("dict[str, object]", value), file=self.file, path=at))
        return found

    def items(self, name: str) -> Sequence[object]:
        """Get a list; empty if it is missing or null."""
        value = self.values.get(name)
        if value is None:
            return ()
        if not isinstance(value, list):
            raise self.refused(name, "a list is needed")
        return cast("list[object]", value)

    def field(self, name: str) -> str:
        """Get the full name of a field."""
        return f"{self._path}.{name}" if self._path else name

    def refused(self, name: str, why: str) -> CheckpointRefused:
        """Create the error for a field, with its value as the file has it."""
        said = f"is {as_written(self.values[name])}" if name in self.values else "is missing"
        return CheckpointRefused(f"{self.file}: {self.field(name)} {said}; {why}.")
