"""The playground's form: a control for each input, and parsing of what browsers send."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from corral.api.inputs import InputField
from corral.core.ranges import COUNT, UNSTATED, format_bound
from corral.web.forms import Form, first

_INTEGER: Final = re.compile(r"[+-]?[0-9]+")
_DECIMAL: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_MAX_DIGITS: Final = 40
"""More digits than any bound has; further digits cannot change a comparison with a bound."""
_MAX_DECIMAL_CHARS: Final = 400
_MISSING: Final = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """Form control of one input."""

    field: InputField
    value: str
    """Current value; for a checkbox, non-empty if checked."""
    fault: str

    @property
    def name(self) -> str:
        """Name of the input and the control."""
        return self.field.name

    @property
    def range(self) -> str:
        """Accepted range as text, ``(minimum: 0, maximum: 5)``; without bounds that come from 64-bit storage only."""
        if self.field.type not in ("integer", "number"):
            return ""
        accepted = self.field.accepted
        bounds = {
            "minimum": accepted.minimum,
            "above": accepted.exclusive_minimum,
            "maximum": accepted.maximum,
            "below": accepted.exclusive_maximum,
        }
        stored = () if self.field.name in UNSTATED else (COUNT.minimum, COUNT.maximum)
        parts = [f"{name}: {format_bound(bound)}" for name, bound in bounds.items() if bound not in (None, *stored)]
        return f"({', '.join(parts)})" if parts else ""

    @property
    def inputmode(self) -> str:
        """Value of the ``inputmode`` attribute: digits only if no sign is possible."""
        least = self.field.accepted.minimum
        if least is None or least < 0:
            return "text"
        return "numeric" if self.field.type == "integer" else "decimal"

    @property
    def default(self) -> str | None:
        """Default as JSON; None without one."""
        if not self.field.has_default:
            return None
        return json.dumps(self.field.default, ensure_ascii=False)

    @property
    def slides(self) -> bool:
        """Whether a slider can cover the range."""
        return self.field.type == "number" and self.field.minimum is not None and self.field.maximum is not None


def controls(
    fields: tuple[InputField, ...], inputs: Mapping[str, Any], faults: Mapping[str, str]
) -> tuple[Control, ...]:
    """Build a control for each visible field, in order.

    Args:
        fields: the model's.
        inputs: what they hold; the default, or nothing, where they are not named.
        faults: what is wrong with them, by name.
    """
    return tuple(
        Control(field=field, value=_shown(inputs.get(field.name, field.default)), fault=faults.get(field.name, ""))
        for field in fields
        if not field.hidden
    )


def read_inputs(form: Form, fields: tuple[InputField, ...]) -> dict[str, Any]:
    """Parse the inputs that differ from their defaults.

    What is no number stays text, so that the API's own check says what is wrong with it.
    """
    inputs: dict[str, Any] = {}
    for field in fields:
        value = _MISSING if field.hidden else _read(field, form)
        if value is not _MISSING and not (field.has_default and value == field.default):
            inputs[field.name] = value
    return inputs


def typed_numbers(form: Form, fields: tuple[InputField, ...]) -> dict[str, str]:
    """Texts typed into number fields, to show the form again."""
    numeric = [field.name for field in fields if field.type in ("integer", "number") and not field.hidden]
    return {name: first(form, name) for name in numeric if name in form}


def _read(field: InputField, form: Form) -> object:
    if field.type == "boolean":
        return bool(form.get(field.name))
    if field.name not in form:
        return _MISSING
    text = first(form, field.name)
    if field.type == "string":
        # An empty text counts only if the default is another text.
        return text if text or field.has_default else _MISSING
    text = text.strip()
    return _number(text) if text else _MISSING


def _number(text: str) -> int | float | str:
    """Parse a number of any size; returns the text if it is none."""
    if _INTEGER.fullmatch(text):
        sign, digits = ("-", text[1:]) if text[0] == "-" else ("", text.removeprefix("+"))
        return int(sign + (digits.lstrip("0") or "0")[:_MAX_DIGITS])
    return float(text) if len(text) <= _MAX_DECIMAL_CHARS and _DECIMAL.fullmatch(text) else text


def _shown(value: object) -> str:
    if value is None or value is False:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
