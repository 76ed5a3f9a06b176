"""The form of a model: a control for each input, and back from what a browser sends to inputs. Pure."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from corral.api.inputs import InputField
from corral.core.ranges import COUNT, UNSTATED, written
from corral.web.forms import Form, first

_INTEGER: Final = re.compile(r"[+-]?[0-9]+")
_DECIMAL: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_MAX_DIGITS: Final = 40
"""More than any range has: what follows does not change on which side of a range an integer is."""
_MAX_DECIMAL_CHARS: Final = 400
_MISSING: Final = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """One input as a person sees it."""

    field: InputField
    value: str
    """What stands in it; of a box, anything if it is ticked."""
    fault: str

    @property
    def name(self) -> str:
        """Of the input, and of the control."""
        return self.field.name

    @property
    def range(self) -> str:
        """``(minimum: 0, maximum: 5)``: what is accepted, without what only 64 bits bound; empty without bounds."""
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
        parts = [f"{name}: {written(bound)}" for name, bound in bounds.items() if bound not in (None, *stored)]
        return f"({', '.join(parts)})" if parts else ""

    @property
    def inputmode(self) -> str:
        """Which keyboard a phone shows: one of digits where no sign can be needed."""
        least = self.field.accepted.minimum
        if least is None or least < 0:
            return "text"
        return "numeric" if self.field.type == "integer" else "decimal"

    @property
    def default(self) -> str | None:
        """The default as JSON; None without one."""
        if not self.field.has_default:
            return None
        return json.dumps(self.field.default, ensure_ascii=False)

    @property
    def slides(self) -> bool:
        """Whether a slider can show the whole range."""
        return self.field.type == "number" and self.field.minimum is not None and self.field.maximum is not None


def controls(
    fields: tuple[InputField, ...], inputs: Mapping[str, Any], faults: Mapping[str, str]
) -> tuple[Control, ...]:
    """A control for each of *fields* that is shown, in their order.

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
    """The inputs that a form sets to something else than their default, as a caller would send them.

    What is no number stays text, so that the API's own check says what is wrong with it.
    """
    inputs: dict[str, Any] = {}
    for field in fields:
        value = _MISSING if field.hidden else _read(field, form)
        if value is not _MISSING and not (field.has_default and value == field.default):
            inputs[field.name] = value
    return inputs


def typed_numbers(form: Form, fields: tuple[InputField, ...]) -> dict[str, str]:
    """What was typed into each field of a number, for a form that is shown again."""
    numeric = [field.name for field in fields if field.type in ("integer", "number") and not field.hidden]
    return {name: first(form, name) for name in numeric if name in form}


def _read(field: InputField, form: Form) -> object:
    if field.type == "boolean":
        return bool(form.get(field.name))
    if field.name not in form:
        return _MISSING
    text = first(form, field.name)
    if field.type == "string":
        # An empty line means something only where the default is another text.
        return text if text or field.has_default else _MISSING
    text = text.strip()
    return _number(text) if text else _MISSING


def _number(text: str) -> int | float | str:
    """A number of any size; the text itself if it is none."""
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
