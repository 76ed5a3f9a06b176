"""The form of a model: a control for each input, and back from what a browser sends to inputs. Pure."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from corral.catalog.inputs import InputField
from corral.web.forms import Form, first

_INTEGER: Final = re.compile(r"-?[0-9]{1,20}")
_DECIMAL: Final = re.compile(r"-?([0-9]{1,20}(\.[0-9]{0,20})?|\.[0-9]{1,20})([eE][+-]?[0-9]{1,2})?")
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
        """``(minimum: 0, maximum: 5)``; empty without bounds."""
        bounds = {"minimum": self.field.minimum, "maximum": self.field.maximum}
        parts = [f"{name}: {bound:g}" for name, bound in bounds.items() if bound is not None]
        return f"({', '.join(parts)})" if parts else ""

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
    if not text:
        return _MISSING
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _DECIMAL.fullmatch(text) else text


def _shown(value: object) -> str:
    if value is None or value is False:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
