"""Convert prediction ids to the ids that each API returns, and back.

A prediction's id is a number of 130 bits. Multiplied by a constant and reduced, it spreads over the whole range of the
other spelling; the constant's inverse leads back. Nothing here is a secret: whoever has the one id may know the other,
and both open nothing without the account's key.
"""

import re
import string
from typing import Final

_DIGITS: Final = "0123456789abcdefghjkmnpqrstvwxyz"
"""Digits of a prediction id: base32 without look-alikes."""
_ID_DIGITS: Final = 26
_ID_RANGE: Final = 32**_ID_DIGITS

_ALPHANUMERICS: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_REQUEST_DIGITS: Final = 23
_REQUEST_RANGE: Final = 62**_REQUEST_DIGITS
_HEX_RANGE: Final = 2**128

_SPREAD: Final = 0x9E3779B97F4A7C15F39CC0605CEDC8341
"""Odd and no multiple of 31, so it has an inverse in every range here."""

_REQUEST_ID: Final = re.compile(r"R[0-9A-Za-z]{23}\Z")
_HEX_ID: Final = re.compile(r"(?:chatcmpl-|cmpl-)([0-9a-f]{32})\Z")
_PREDICTION_ID: Final = re.compile(rf"[{_DIGITS}]{{{_ID_DIGITS}}}\Z")


def request_id(prediction_id: str) -> str:
    """DeepInfra's request id: ``R`` and 23 letters and digits."""
    return "R" + _written(_number(prediction_id, _DIGITS) * _SPREAD % _REQUEST_RANGE, _ALPHANUMERICS, _REQUEST_DIGITS)


def hex_id(prediction_id: str) -> str:
    """32 hex digits. Four possible prediction ids share each value; in practice one of them exists."""
    return f"{_number(prediction_id, _DIGITS) * _SPREAD % _HEX_RANGE:032x}"


def prediction_ids(answer_id: str) -> tuple[str, ...]:
    """Prediction ids that a public id may mean: none, one, or four for hex digits."""
    if _PREDICTION_ID.match(answer_id):
        return (answer_id,)
    if _REQUEST_ID.match(answer_id):
        spread = _number(answer_id[1:], _ALPHANUMERICS)
        numbers = [spread * pow(_SPREAD, -1, _REQUEST_RANGE) % _REQUEST_RANGE]
    elif found := _HEX_ID.match(answer_id):
        low = int(found[1], 16) * pow(_SPREAD, -1, _HEX_RANGE) % _HEX_RANGE
        numbers = [low + high * _HEX_RANGE for high in range(_ID_RANGE // _HEX_RANGE)]
    else:
        numbers = []
    return tuple(_written(number, _DIGITS, _ID_DIGITS) for number in numbers if number < _ID_RANGE)


def _number(text: str, digits: str) -> int:
    number = 0
    for character in text:
        number = number * len(digits) + digits.index(character)
    return number


def _written(number: int, digits: str, length: int) -> str:
    text = ""
    for _ in range(length):
        number, digit = divmod(number, len(digits))
        text = digits[digit] + text
    return text
