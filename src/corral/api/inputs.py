"""Input tables: the inputs of Replicate's and of DeepInfra's API as data, for validation, documentation and forms.

Each of these doors has an ``inputs.toml`` in its package, with the order, texts, defaults and ranges of the service's
own pages.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Final, Literal, TypedDict, cast, get_args

from corral.catalog.model import CatalogModel
from corral.catalog.tables import from_table
from corral.core.errors import BadSetting
from corral.core.ranges import COUNT, UNSTATED, Range

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
    """One input."""

    name: str
    type: InputType
    """``array`` is an array of strings."""
    order: int
    """Position, from 0; hidden inputs are last."""
    description: str = ""
    has_default: bool = False
    default: Any = None
    """Value if none is sent; None with ``has_default`` is null. A tuple for arrays."""
    required: bool = False
    minimum: float | None = None
    maximum: float | None = None
    exclusive_minimum: float | None = None
    exclusive_maximum: float | None = None
    min_length: int | None = None
    """In characters."""
    max_items: int | None = None
    max_item_length: int | None = None
    """In characters."""
    hidden: bool = False
    """Accepted, but not documented."""

    @property
    def title(self) -> str:
        """Name in title case: ``Top P``."""
        return self.name.replace("_", " ").title()

    def holds(self, number: float) -> bool:
        """Whether *number* is in the accepted range; NaN never is."""
        return self.accepted.holds(number)

    @property
    def accepted(self) -> Range:
        """Accepted range: the documented one, limited to what the engine and the database can hold."""
        stated = Range(
            minimum=self.minimum,
            maximum=self.maximum,
            exclusive_minimum=self.exclusive_minimum,
            exclusive_maximum=self.exclusive_maximum,
        )
        unstated = COUNT if self.type == "integer" else Range()
        return stated.within(UNSTATED.get(self.name, unstated))


class Bounds(TypedDict, total=False):
    """Range in the names of JSON Schema."""

    minimum: float
    maximum: float
    exclusiveMinimum: float
    exclusiveMaximum: float


def bounds(field: InputField) -> Bounds:
    """Convert the range of *field* to the names of JSON Schema; absent bounds are left out."""
    named = {
        "minimum": field.minimum,
        "maximum": field.maximum,
        "exclusiveMinimum": field.exclusive_minimum,
        "exclusiveMaximum": field.exclusive_maximum,
    }
    return cast("Bounds", {name: bound for name, bound in named.items() if bound is not None})


class InputTable:
    """The inputs of one API, read from ``inputs.toml`` in the package of its door."""

    def __init__(self, door: str, *, own_names: Mapping[str, str] = NO_OVERRIDES) -> None:
        """Read the file.

        Args:
            door: name of the package under ``corral.api.doors``.
            own_names: by the catalog's name of an input, the name that it has in this API, where that is another one.

        Raises:
            BadSetting: the file has a mistake.
        """
        text = files("corral.api.doors").joinpath(door, "inputs.toml").read_text(encoding="utf-8")
        document = tomllib.loads(text)
        self.fields = fields_from_tables(document["field"], where=door)
        """In their order, hidden ones last, with the defaults of the API."""
        self._door = door
        self._own_names = own_names
        self._without_default: Mapping[str, list[str]] = {
            name.lower(): table["without_default"] for table in document.get("model", []) for name in table["names"]
        }

    def for_model(self, model: CatalogModel, *, overrides: Mapping[str, Any] = NO_OVERRIDES) -> tuple[InputField, ...]:
        """Get the fields with the defaults of *model*.

        Args:
            model: whose ``input_defaults`` precede the API's.
            overrides: defaults by the API's name of an input, which precede the model's; None is to have none.

        Raises:
            BadSetting: an override names no input, or a default is not a value of its input.
        """
        names = {field.name for field in self.fields}
        of_model = {self._own_names.get(name, name): value for name, value in model.input_defaults.items()}
        defaults = {
            **{name: value for name, value in of_model.items() if name in names},
            **dict.fromkeys(self._without_default.get(model.id.lower(), ())),
            **overrides,
        }
        if unknown := sorted(defaults.keys() - names):
            raise BadSetting(f"{self._door}: there is no input {', '.join(unknown)}.")
        return tuple(
            _with_default(field, defaults[field.name], where=f"{self._door}: {field.name}")
            if field.name in defaults
            else field
            for field in self.fields
        )


def fields_from_tables(tables: list[dict[str, Any]], *, where: str) -> tuple[InputField, ...]:
    """Build fields from the tables of a file, in order.

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
