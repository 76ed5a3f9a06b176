"""Read TOML and JSON tables as frozen dataclasses; unknown and missing keys are errors."""

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from typing import TYPE_CHECKING, Any, TypeVar

from corral.core.errors import BadSetting

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Made = TypeVar("Made", bound=DataclassInstance)


def from_table(kind: "type[Made]", table: Mapping[str, Any], *, where: str) -> "Made":
    """An object of the dataclass *kind* whose fields are the keys of *table*.

    Args:
        kind: a dataclass; its fields without a default are required.
        table: values as they are, unchecked.
        where: what the error calls the table.

    Raises:
        BadSetting: a key is unknown or missing.
    """
    known = {field.name: field for field in fields(kind)}
    if unknown := sorted(table.keys() - known.keys()):
        raise BadSetting(f"{where}: there is no key {', '.join(unknown)}.")
    if missing := sorted(name for name, field in known.items() if _required(field) and name not in table):
        raise BadSetting(f"{where}: {', '.join(missing)} is missing.")
    return kind(**table)


def _required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING
