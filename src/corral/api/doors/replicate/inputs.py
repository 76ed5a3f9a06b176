"""Validate a body's ``input`` against the input table.

Types of faults and their descriptions are those of the JSON Schema validator that Replicate's API uses. Keys that are
no field are let through unread, as they are there; ``null`` is taken for a field that is left out.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, cast

from corral.api.doors.replicate.faults import Fault, invalid
from corral.api.inputs import InputField
from corral.core.ranges import Range, format_bound

STOP_SEQUENCES: Final = "stop_sequences"
MAX_STOPS: Final = 16
MAX_STOP_CHARS: Final = 256
_MAX_STOPS_CHARS: Final = 2 * MAX_STOPS * (MAX_STOP_CHARS + 1)
"""Limit of the whole field; leaves room for sequences that are sent twice."""

_TYPE_NAMES: Final[Mapping[type, str]] = {
    bool: "boolean",
    str: "string",
    float: "number",
    list: "array",
    dict: "object",
    type(None): "null",
}


def read_input(given: object, fields: Iterable[InputField]) -> dict[str, Any]:
    """Validate the input and return the value of every field: as sent, else its default, else None.

    Raises:
        InvalidInput: with every fault.
    """
    if not isinstance(given, dict):
        raise invalid([_wrong_type("input", "object", given)])
    sent = cast("dict[str, Any]", given)
    values: dict[str, Any] = {}
    faults: list[Fault] = []
    for field in fields:
        value = sent.get(field.name)
        if value is None:
            values[field.name] = field.default
            if field.required:
                faults.append(Fault(type="required", field="input", description=f"{field.name} is required"))
        else:
            values[field.name] = int(value) if field.type == "integer" and _is_whole(value) else value
            faults += _faults(field, value)
    faults += [] if faults else _faults_together(values)
    if faults:
        raise invalid(faults)
    return values


def stops(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Stop sequences: the untrimmed texts between commas, or the entries of a list."""
    given: str | list[str] = values[STOP_SEQUENCES] or ""
    return tuple(dict.fromkeys(stop for stop in (given.split(",") if isinstance(given, str) else given) if stop))


def stops_text(listed: Sequence[object]) -> str | None:
    """Join a list of stop sequences with commas; None if an entry is not a string or has a comma in it."""
    entries = [entry for entry in listed if isinstance(entry, str) and "," not in entry]
    return ",".join(entries) if len(entries) == len(listed) else None


def _faults(field: InputField, value: object) -> Iterator[Fault]:
    where = f"input.{field.name}"
    if field.name == STOP_SEQUENCES and isinstance(value, list):
        for index, entry in enumerate(cast("list[object]", value)):
            if not isinstance(entry, str):
                yield _wrong_type(f"{where}.{index}", "string", entry)
                return
    elif not _is(field.type, value):
        yield _wrong_type(where, field.type, value)
    elif isinstance(value, str):
        if field.min_length is not None and len(value) < field.min_length:
            description = f"String length must be greater than or equal to {field.min_length}"
            yield Fault(type="string_gte", field=where, description=description)
    elif isinstance(value, int | float):
        yield from _out_of_range(field.accepted, where, value)


def _out_of_range(accepted: Range, where: str, value: float) -> Iterator[Fault]:
    if accepted.minimum is not None and not value >= accepted.minimum:
        description = f"Must be greater than or equal to {format_bound(accepted.minimum)}"
        yield Fault(type="number_gte", field=where, description=description)
    elif accepted.exclusive_minimum is not None and not value > accepted.exclusive_minimum:
        description = f"Must be greater than {format_bound(accepted.exclusive_minimum)}"
        yield Fault(type="number_gt", field=where, description=description)
    elif accepted.maximum is not None and not value <= accepted.maximum:
        description = f"Must be less than or equal to {format_bound(accepted.maximum)}"
        yield Fault(type="number_lte", field=where, description=description)


def _faults_together(values: Mapping[str, Any]) -> Iterator[Fault]:
    """Faults that no single field has."""
    given: str | list[str] = values[STOP_SEQUENCES] or ""
    too_long = len(given if isinstance(given, str) else ",".join(given)) > _MAX_STOPS_CHARS
    wanted = () if too_long else stops(values)
    if too_long or len(wanted) > MAX_STOPS or any(len(stop) > MAX_STOP_CHARS for stop in wanted):
        description = f"At most {MAX_STOPS} sequences of at most {MAX_STOP_CHARS} characters"
        yield Fault(type="string_lte", field=f"input.{STOP_SEQUENCES}", description=description)
    if values["replicate_weights"]:
        description = "Fine-tuned weights cannot be fetched here"
        yield Fault(type="not_offered", field="input.replicate_weights", description=description)


def _is(kind: str, value: object) -> bool:
    match kind:
        case "string":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            return _is_whole(value)
        case _:
            return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: object) -> bool:
    """Whether JSON Schema calls the value an integer: 512.0 is one."""
    return (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, float) and value % 1 == 0)


def _wrong_type(where: str, expected: str, value: object) -> Fault:
    description = f"Invalid type. Expected: {expected}, given: {json_type(value)}"
    return Fault(type="invalid_type", field=where, description=description)


def json_type(value: object) -> str:
    """JSON Schema's name of the value's type."""
    if _is_whole(value):
        return "integer"
    return next(name for kind, name in _TYPE_NAMES.items() if isinstance(value, kind))
