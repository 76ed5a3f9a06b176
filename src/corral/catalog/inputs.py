"""The inputs that each door takes, as data: what it validates by, describes and draws its form from.

One TOML file per dialect under ``dialects/``. Order, texts, defaults and ranges are those of the service whose
dialect it is. What Corral does with a value is the door's business.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Final, Literal, TypedDict, cast, get_args

from corral.catalog.tables import from_table
from corral.core.errors import BadSetting
from corral.core.ranges import COUNT, UNSTATED, Range

Dialect = Literal["replicate", "deepinfra"]
InputType = Literal["string", "integer", "number", "boolean", "array", "object"]

NO_OVERRIDES: Final[Mapping[str, Any]] = MappingProxyType({})
_PYTHON_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (tuple,),
    "object": (dict,),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class InputField:
    """One input by its name on the wire."""

    name: str
    type: InputType
    """An array is one of strings."""
    order: int
    """From 0 on, hidden ones last."""
    description: str = ""
    has_default: bool = False
    default: Any = None
    """What counts when nothing is sent; None with ``has_default`` is null. An array's is a tuple."""
    required: bool = False
    minimum: float | None = None
    maximum: float | None = None
    exclusive_minimum: float | None = None
    exclusive_maximum: float | None = None
    min_length: int | None = None
    """Characters of a string."""
    max_items: int | None = None
    max_item_length: int | None = None
    """Characters of each string in an array."""
    hidden: bool = False
    """Accepted, and shown nowhere."""

    @property
    def title(self) -> str:
        """Its name in Title Case: ``Top P``."""
        return self.name.replace("_", " ").title()

    def holds(self, number: float) -> bool:
        """Whether *number* is within the accepted range; nan never is."""
        return self.accepted.holds(number)

    @property
    def accepted(self) -> Range:
        """The numbers that are taken: those of the stated range that the engine and the database can hold."""
        stated = Range(
            minimum=self.minimum,
            maximum=self.maximum,
            exclusive_minimum=self.exclusive_minimum,
            exclusive_maximum=self.exclusive_maximum,
        )
        unstated = COUNT if self.type == "integer" else Range()
        return stated.within(UNSTATED.get(self.name, unstated))


class Bounds(TypedDict, total=False):
    """The range of a number, by the names that JSON Schema has for it."""

    minimum: float
    maximum: float
    exclusiveMinimum: float
    exclusiveMaximum: float


def bounds(field: InputField) -> Bounds:
    """The range of *field* in JSON Schema's names; without those that it has not."""
    named = {
        "minimum": field.minimum,
        "maximum": field.maximum,
        "exclusiveMinimum": field.exclusive_minimum,
        "exclusiveMaximum": field.exclusive_maximum,
    }
    return cast("Bounds", {name: bound for name, bound in named.items() if bound is not None})


def input_fields(dialect: Dialect, *, overrides: Mapping[str, Any] = NO_OVERRIDES) -> tuple[InputField, ...]:
    """The inputs of a dialect in their order, hidden ones last.

    Args:
        dialect: whose names and texts.
        overrides: other defaults by input name; None is to have none.

    Raises:
        BadSetting: an override names no input, or is no value of it.
    """
    if unknown := sorted(overrides.keys() - {field.name for field in _fields(dialect)}):
        raise BadSetting(f"{dialect}: there is no input {', '.join(unknown)}.")
    return tuple(
        _with_default(field, overrides[field.name], where=f"{dialect}: {field.name}")
        if field.name in overrides
        else field
        for field in _fields(dialect)
    )


@cache
def _fields(dialect: Dialect) -> tuple[InputField, ...]:
    if dialect not in get_args(Dialect):
        raise BadSetting(f"There is no dialect '{dialect}'.")
    text = files("corral.catalog").joinpath("dialects", f"{dialect}.toml").read_text(encoding="utf-8")
    return fields_from_tables(tomllib.loads(text)["field"], where=dialect)


def fields_from_tables(tables: list[dict[str, Any]], *, where: str) -> tuple[InputField, ...]:
    """Inputs from the tables of a file, in their order.

    Raises:
        BadSetting: a key is unknown or missing, a name occurs twice, a shown input follows a hidden one, or a default
            is no value of its input.
    """
    made = tuple(_field(table, order, where=f"{where}: input {order}") for order, table in enumerate(tables))
    names = [field.name for field in made]
    if len(set(names)) < len(names):
        raise BadSetting(f"{where}: an input occurs twice.")
    hidden = [field.hidden for field in made]
    if hidden != sorted(hidden):
        raise BadSetting(f"{where}: hidden inputs must stand last, so that the others are numbered without gaps.")
    return made


def _field(table: Mapping[str, Any], order: int, *, where: str) -> InputField:
    # TOML has no null, so a default that is null has a key of its own.
    keys = {name: value for name, value in table.items() if name not in ("default", "default_is_null")}
    field = from_table(InputField, {**keys, "order": order}, where=where)
    if field.type not in get_args(InputType):
        raise BadSetting(f"{where}: there is no type '{field.type}'.")
    if table.get("default_is_null") is True:
        return replace(field, has_default=True)
    return _with_default(field, table.get("default"), where=where)


def _with_default(field: InputField, default: Any, *, where: str) -> InputField:
    if default is None:
        return replace(field, has_default=False, default=None)
    value: object = tuple(cast("list[object]", default)) if isinstance(default, list) else default
    is_kind = isinstance(value, _PYTHON_TYPES[field.type]) and isinstance(value, bool) == (field.type == "boolean")
    if not is_kind or (isinstance(value, int | float) and not field.holds(value)):
        raise BadSetting(f"{where}: {default!r} is no default for it.")
    return replace(field, has_default=True, default=value)
