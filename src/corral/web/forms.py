"""Read submitted forms."""

import re
import secrets
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final
from urllib.parse import parse_qsl

from starlette.requests import Request

from corral.api.long_work import work_on_text
from corral.core.errors import InvalidRequest

MAX_FIELDS: Final = 200
_ONCE: Final = "once"
"""Hidden field with the idempotency key of a form, so that sending the form twice has one effect."""
_KEY: Final = re.compile(r"[0-9a-f]{32}")
_FORM: Final = "application/x-www-form-urlencoded"

Form = Mapping[str, Sequence[str]]
"""Values by name, in order."""


async def read_form(request: Request) -> Form:
    """Read the fields of a form; ``BodyLimit`` limits its size.

    Raises:
        InvalidRequest: it is no form, or has more fields than any page asks for.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise InvalidRequest("A form is expected here.")
    body = await request.body()
    # Parsing a megabyte of percent-encoded text takes a tenth of a second.
    return await work_on_text(partial(_read, body), chars=len(body))


def _read(body: bytes) -> Form:
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    except ValueError:
        raise InvalidRequest("The form cannot be read.") from None
    form: dict[str, list[str]] = {}
    for name, value in pairs:
        # Browsers send line ends of text areas as CRLF.
        form.setdefault(name, []).append(value.replace("\r\n", "\n"))
    return form


def first(form: Form, name: str) -> str:
    """First value of a field; empty if it was not sent."""
    return next(iter(form.get(name, ())), "")


def new_idempotency_key() -> str:
    """Create the value of the field ``once`` of a form."""
    return secrets.token_hex(16)


def idempotency_key(form: Form) -> str | None:
    """Get the form's idempotency key; None if it is missing or not valid."""
    key = first(form, _ONCE)
    return key if _KEY.fullmatch(key) else None
