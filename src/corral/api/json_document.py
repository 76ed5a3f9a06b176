"""Parse JSON (RFC 8259) strictly: bounded depth, no duplicate names, exact ranges of numbers.

Numbers are read so that a check of their range is right whatever their size: integers of 64 bits exactly, any other as
the double next to it *away from zero*. ``18446744073709551617`` does not become 2**64, and ``1e400`` is the largest
double, not infinity.
"""

import gc
import json
import math
import re
import secrets
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, Final, cast

import orjson

from corral.core.errors import InvalidRequest

MAX_DEPTH: Final = 254
MAX_CONTAINERS: Final = 2**16
"""More objects and lists would block other requests while they are created."""
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_LONG_NUMBER: Final = re.compile(rb"[0-9]{19}|[0-9][eE]\+?[0-9]{3}")
"""Matches every body with a number beyond 64 bits or a double, and few others."""
_TOKEN: Final = re.compile(
    rb'"(?:[^"\\]++|\\.)*+"'
    rb"|(?P<number>-?(?:0|[1-9][0-9]*+)(?P<fraction>\.[0-9]++)?(?P<exponent>[eE][+-]?[0-9]++)?)"
    rb"|(?P<constant>NaN|-?Infinity)",
    re.DOTALL,
)
_TEXT: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_NAME_END: Final = re.compile(rb'"[ \t\r\n]*+:')
"""End of a name in an object, or a quotation mark before a colon inside a string."""
_ESCAPED: Final = re.compile(rb"\\u00(?:22|20|3[aA])")
"""Escapes that hide a ``_NAME_END`` which the re-encoded document shows."""
_LARGEST_DOUBLE: Final = 1.7976931348623157e308
_INT64: Final = range(-(2**63), 2**64)
_MAX_SHOWN_CHARS: Final = 64


class NotJson(InvalidRequest):
    """The body is not unambiguous JSON in UTF-8."""


def parse_json(body: bytes) -> object:
    """Parse *body*. A byte-order mark is skipped.

    Raises:
        NotJson: not UTF-8, not JSON, NaN, a name twice in one object, nested more than ``MAX_DEPTH`` deep, or made of
            more than ``MAX_CONTAINERS`` objects and lists.
    """
    body = body.removeprefix(_BYTE_ORDER_MARK)
    text = decode_utf8(body, what="The request body")
    if _LONG_NUMBER.search(body):
        body = _TOKEN.sub(_rounded, body)
        text = body.decode()
    _check_size(body)
    try:
        with _no_collections():
            document: object = orjson.loads(body)
        # orjson reads four times deeper than it writes, and accepted documents may be stored.
        written = orjson.dumps(document)
    except orjson.JSONDecodeError as error:
        raise _not_json(body, error) from None
    except orjson.JSONEncodeError:
        raise NotJson(f"The request body is nested more than {MAX_DEPTH} levels deep.") from None
    # The slower parser sees every name; needed only if the re-encoded document has fewer names than the body.
    if _ESCAPED.search(body) or len(_NAME_END.findall(body)) != len(_NAME_END.findall(written)):
        with _no_collections():
            _DUPLICATES.decode(text)
    return document


def _brackets(text: bytes) -> int:
    return text.count(b"[") + text.count(b"{")


def _check_size(body: bytes) -> None:
    containers = _brackets(body)
    if containers <= MAX_CONTAINERS:
        return
    for text in _TEXT.finditer(body):  # a Python loop, so that other threads can run
        containers -= _brackets(text[0])
    if containers > MAX_CONTAINERS:
        raise NotJson(f"The request body has more than {MAX_CONTAINERS} objects and lists.")


def decode_utf8(text: bytes, *, what: str) -> str:
    """Decode *text*; *what* begins the error message.

    Raises:
        NotJson: not UTF-8.
    """
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        byte = text[error.start]
        raise NotJson(f"{what} is not UTF-8: byte 0x{byte:02x} at offset {error.start} cannot stand there.") from None


@contextmanager
def _no_collections() -> Generator[None]:
    """Pause the garbage collector, which would scan the unfinished document repeatedly while all threads wait.

    For half a million lists that takes ten times as long as reading them.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _rounded(token: re.Match[bytes]) -> bytes:
    """Replace a number that is neither a 64-bit integer nor a double by the next double away from zero."""
    text = token[0]
    if token["number"] is None:
        return text
    is_integer = token["fraction"] is None and token["exponent"] is None
    if is_integer and (len(text) < 19 or (len(text) <= 20 and int(text) in _INT64)):
        return text
    number = float(text)
    if math.isinf(number):
        number = math.copysign(_LARGEST_DOUBLE, number)
    elif is_integer and number in (float(_INT64.start), float(_INT64.stop)) and int(text) != number:
        number = math.nextafter(number, math.copysign(math.inf, number))
    return repr(number).encode()


def _refuse_duplicates(pairs: list[tuple[str, object]]) -> None:
    if len(dict(pairs)) == len(pairs):
        return
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            shown = _short(name)
            raise NotJson(f"'{shown}' occurs twice in one object of the request body; send it once.", param=shown)
        seen.add(name)


_DUPLICATES: Final = json.JSONDecoder(object_pairs_hook=_refuse_duplicates)


def _not_json(body: bytes, error: orjson.JSONDecodeError) -> NotJson:
    """Build the error for a body that orjson rejects. Its message gives the position and never quotes the body."""
    if found := _find_constant(body):
        path, constant = found
        return NotJson(f"'{path}' is {constant}, which is no number in JSON; send a finite one.", param=path)
    return NotJson(f"The request body is not valid JSON: {error}.")


def _find_constant(body: bytes) -> tuple[str, str] | None:
    """Find path and name of the first NaN or Infinity, which Python's JSON encoder emits; None if the body has other
    faults.
    """
    mark = secrets.token_hex(16)
    constants = [token["constant"] for token in _TOKEN.finditer(body) if token["constant"] is not None]
    if not constants:
        return None
    try:
        document = orjson.loads(_TOKEN.sub(lambda token: _marked(token, mark), body))
    except orjson.JSONDecodeError:
        return None
    path = next(path for path, value in _leaves(document) if value == mark)
    return path, constants[0].decode()


def _marked(token: re.Match[bytes], mark: str) -> bytes:
    return token[0] if token["constant"] is None else f'"{mark}"'.encode()


def _leaves(document: object) -> Iterator[tuple[str, object]]:
    """Yield every value that is not an object or a list with its dotted path, in order."""
    waiting: list[tuple[str, object]] = [("", document)]
    while waiting:
        path, value = waiting.pop()
        match value:
            case dict():
                items = [(f"{path}.{_short(name)}", each) for name, each in cast("dict[str, Any]", value).items()]
            case list():
                items = [(f"{path}[{index}]", each) for index, each in enumerate(cast("list[Any]", value))]
            case _:
                items = []
                yield path.removeprefix(".") or "body", value
        waiting += reversed(items)


def _short(name: str) -> str:
    return name if len(name) <= _MAX_SHOWN_CHARS else name[:_MAX_SHOWN_CHARS] + "…"
