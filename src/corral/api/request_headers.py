"""Request headers that every door reads: idempotency key and cost limit."""

import hashlib
import re
from decimal import ROUND_FLOOR, Decimal

import orjson
from starlette.requests import Request

from corral.core.errors import InvalidRequest
from corral.core.pricing import NUSD_PER_USD
from corral.core.ranges import MAX_USD
from corral.service.ports import Idempotency

IDEMPOTENCY_KEY = "Idempotency-Key"
MAX_COST = "corral-max-cost"

USD_PATTERN = r"^[0-9]{1,10}(\.[0-9]{1,18})?$"
IDEMPOTENCY_KEY_PATTERN = r"^[!-~]{1,255}$"
"""Visible ASCII characters."""

_USD = re.compile(USD_PATTERN.replace("$", r"\Z"))
_KEY = re.compile(IDEMPOTENCY_KEY_PATTERN.replace("$", r"\Z"))


def read_idempotency(request: Request, *, route: str, document: object) -> Idempotency | None:
    """Read the idempotency key and digest the request; None without the header.

    Args:
        request: whose header is read.
        route: the same for each path that leads to one handler.
        document: the body. Order of keys and white space do not make another body of it.

    Raises:
        InvalidRequest: more than one key, or not 1 to 255 visible characters.
    """
    keys = request.headers.getlist(IDEMPOTENCY_KEY)
    if not keys:
        return None
    if len(keys) > 1 or not _KEY.match(keys[0]):
        raise InvalidRequest(f"'{IDEMPOTENCY_KEY}' must be 1 to 255 visible ASCII characters.", param=IDEMPOTENCY_KEY)
    canonical = orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
    return Idempotency(key=keys[0], body_digest=hashlib.sha256(route.encode() + b"\n" + canonical).digest())


def read_max_cost(request: Request) -> Decimal | None:
    """Read the cost limit in dollars; None without the header.

    Raises:
        InvalidRequest: more than one, or no amount.
    """
    values = request.headers.getlist(MAX_COST)
    if not values:
        return None
    if len(values) == 1:
        amount = usd_amount(values[0])
        if amount is not None:
            return amount
    raise InvalidRequest(f"'{MAX_COST}' must be an amount from 0 to {MAX_USD} dollars, such as 0.0025.", param=MAX_COST)


def usd_amount(value: object) -> Decimal | None:
    """Parse dollars exactly from a decimal string or a JSON number; None if it is not an amount."""
    if isinstance(value, str):
        amount = Decimal(value) if _USD.match(value) else None
    elif isinstance(value, int | float) and not isinstance(value, bool):
        # The shortest decimal that reads as this double: what the caller wrote, up to 15 digits.
        amount = Decimal(repr(value))
    else:
        amount = None
    return amount if amount is not None and amount.is_finite() and 0 <= amount <= MAX_USD else None


def nusd(amount: Decimal) -> int:
    """Convert dollars to nano-dollars, rounded down, so that a limit is never exceeded."""
    return int((amount * NUSD_PER_USD).to_integral_value(ROUND_FLOOR))
