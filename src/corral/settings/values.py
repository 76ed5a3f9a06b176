"""Format values of settings for error messages: given, accepted, nearest name."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from types import NoneType
from typing import Any, Final, get_args

from annotated_types import Ge, Gt, Le
from pydantic.fields import FieldInfo

_MAX_SHOWN_CHARACTERS: Final = 100


def expected(field: FieldInfo, *, spelled: Mapping[str, str] | None = None, name: str = "") -> str:
    """Returns what a setting accepts, as the object of "give".

    Args:
        field: of a pydantic model.
        spelled: texts, by the name of the setting, for those whose type does not say it.
        name: of the setting.
    """
    if spelled is not None and name in spelled:
        return spelled[name]
    annotation: Any = field.annotation
    options = [each for each in get_args(annotation) if each is not NoneType]
    literals = [text for each in (annotation, *options) for text in get_args(each) if isinstance(text, str)]
    if literals:
        return f"one of {', '.join(literals)}"
    kind = options[0] if len(options) == 1 and NoneType in get_args(annotation) else annotation
    if kind is bool:
        return "true or false"
    if kind is not int and kind is not float:
        return "text that is not empty"
    low, high = "", ""
    for rule in field.metadata:
        low = f"from {rule.ge:g}" if isinstance(rule, Ge) else f"above {rule.gt:g}" if isinstance(rule, Gt) else low
        high = f" to {rule.le}" if isinstance(rule, Le) else high
    return f"a {'whole number' if kind is int else 'number'} {low}{high}"


def shown(given: object) -> str:
    """Returns the given value in quotes, truncated."""
    text = str(given).lower() if isinstance(given, bool) else str(given)
    return f"'{text}'" if len(text) <= _MAX_SHOWN_CHARACTERS else f"'{text[:_MAX_SHOWN_CHARACTERS]}…'"


def nearest(name: str, known: Iterable[str], *, spell: str = "{}") -> str:
    """Returns a question with the known name that is nearest to *name*, in the form *spell*; empty if none is near."""
    near = get_close_matches(name, list(known), n=1)
    return f" Did you mean {spell.format(near[0])}?" if near else ""
