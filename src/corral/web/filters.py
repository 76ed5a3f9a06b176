"""Parse the filters in a query string; unknown ones become messages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from starlette.datastructures import QueryParams

_MAX_SHOWN_CHARS: Final = 60
_MAX_IGNORED: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Filters of one request."""

    chosen: Mapping[str, str]
    """Valid filters by name."""
    ignored: tuple[str, ...]
    """Message for each part of the query that has no effect."""


def read_filters(query: QueryParams, options: Mapping[str, Sequence[str]], *, others: Sequence[str] = ()) -> Filters:
    """Parse the filters of *query*.

    Args:
        query: of the address.
        options: the values of each filter; an empty value sets nothing.
        others: parameters that are no filters, and are read elsewhere.
    """
    chosen: dict[str, str] = {}
    ignored: list[str] = []
    for name in dict.fromkeys(query.keys()):
        values = query.getlist(name)
        if name in others:
            continue
        if name not in options:
            ignored.append(f"“{_short(name)}” is ignored: the filters here are {', '.join(options)}.")
        elif len(values) > 1:
            ignored.append(f"“{name}” is ignored, since it is given {len(values)} times.")
        elif values[0] in options[name]:
            chosen[name] = values[0]
        elif values[0]:
            ignored.append(f"“{name}={_short(values[0])}” is ignored: {name} is one of {', '.join(options[name])}.")
    return Filters(chosen=chosen, ignored=tuple(ignored[:_MAX_IGNORED]))


def _short(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN_CHARS else text[: _MAX_SHOWN_CHARS - 1] + "…"
