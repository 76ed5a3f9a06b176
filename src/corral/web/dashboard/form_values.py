"""Parse form fields and collect their errors."""

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from corral.core.errors import InvalidRequest
from corral.core.pricing import parse_usd
from corral.web.forms import Form

_MAX_REPEATED_CHARS: Final = 60
_DIGITS: Final = re.compile(r"[0-9]+")
MAX_COUNT: Final = 10**15
"""Largest limit that can be entered."""
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
MAX_CHARS: Final = 1000
"""Longest value of a field."""


class FormValues:
    """Submitted form: values and errors by field."""

    def __init__(self, sent: Form) -> None:
        """*sent* holds all values by name, in order."""
        self.sent = sent
        self.errors: dict[str, str] = {}
        """Error messages by field."""

    @property
    def status(self) -> int:
        """Status of the page that shows the form: 422 with errors, otherwise 200."""
        return 422 if self.errors else 200

    def text(self, name: str, *, needed: bool = False) -> str:
        """Get a stripped line; empty if there is none."""
        values = self.sent.get(name, ())
        value = values[0].strip() if values else ""
        if needed and not value:
            self.errors[name] = "This is needed."
        if len(value) > MAX_CHARS:
            self.errors[name] = f"At most {MAX_CHARS} characters."
            return ""
        if _CONTROL.search(value):
            self.errors[name] = "Control characters cannot be stored: remove them."
            return ""
        return value

    def many(self, name: str) -> tuple[str, ...]:
        """Get all checked boxes of this name."""
        return tuple(self.sent.get(name, ()))

    def ticked(self, name: str) -> bool:
        """Whether a box is checked."""
        return bool(self.sent.get(name))

    def usd(self, name: str, *, signed: bool = False) -> int | None:
        """Parse dollars into nano-dollars; None if empty."""
        value = self.text(name).removeprefix("$")
        if not value:
            return None
        try:
            amount_nusd = parse_usd(value)
        except InvalidRequest as refused:
            self.errors[name] = str(refused)
            return None
        if amount_nusd < 0 and not signed:
            self.errors[name] = f"'{value}' is negative."
            return None
        return amount_nusd

    def count(self, name: str) -> int | None:
        """Parse a whole number from 1 to ``MAX_COUNT``; None if empty."""
        value = self.text(name)
        if not value:
            return None
        count = int(value) if _DIGITS.fullmatch(value) else 0
        if not 1 <= count <= MAX_COUNT:
            self.errors[name] = f"'{_short(value)}' is no whole number from 1 to {MAX_COUNT:,}."
            return None
        return count

    def day_ms(self, name: str) -> int | None:
        """Parse a day into Unix milliseconds of its start in UTC; None if empty."""
        value = self.text(name)
        if not value:
            return None
        if _DAY.fullmatch(value):
            with suppress(ValueError):  # told below
                return int(datetime.fromisoformat(value).replace(tzinfo=UTC).timestamp()) * 1000
        self.errors[name] = f"'{value}' is no day such as 2026-01-31."
        return None

    def refuse(self, refused: InvalidRequest, *, fields: Mapping[str, str], otherwise: str) -> None:
        """Add an error of the service to the field it names.

        Args:
            refused: the service's refusal.
            fields: the form's name for each ``param`` that the service may name.
            otherwise: the field beside which everything else is shown.
        """
        self.errors[fields.get(refused.param or "", otherwise)] = str(refused)

    def shown(self, name: str, otherwise: object = "") -> str:
        """Value to show in a field: as submitted, or *otherwise* if the form was not."""
        return self.text(name) if self.sent else str(otherwise)

    def has(self, name: str, value: str, *, default: bool = False) -> bool:
        """Whether a box is checked: as submitted, or *default* if the form was not."""
        return value in self.sent.get(name, ()) if self.sent else default


def _short(value: str) -> str:
    """Shorten a value for a message."""
    return value if len(value) <= _MAX_REPEATED_CHARS else value[: _MAX_REPEATED_CHARS - 1] + "…"
