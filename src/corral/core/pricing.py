"""Prices, costs and receipts, in integer nano-dollars (10^-9 USD): $0.65 per million tokens is 650 per token."""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from decimal import Decimal
from typing import Any, Final

from corral.core.errors import BadSetting, InvalidRequest
from corral.core.prediction import StoppedBy
from corral.core.ranges import MAX_USD

NUSD_PER_USD: Final = 10**9
_TOKENS_PER_QUOTE: Final = 10**6
RECEIPT_FORMAT: Final = 2
_ADDED_IN: Final = {"weights_id": 2}
"""Receipt fields by the format that added them."""
_FORMATS: Final = range(1, RECEIPT_FORMAT + 1)
_MAX_PRICE_NUSD: Final = 10**9
_MAX_REPEATED_CHARS: Final = 60
_USD: Final = re.compile(r"-?[0-9]{1,1000}(\.[0-9]{1,9})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """Price of a model per input and output token."""

    version: str
    """Permanent id of this price: ``meta/llama-2-70b-chat@2024-01-01``."""
    input_nusd: int
    output_nusd: int

    def cost_nusd(self, *, prompt_tokens: int, completion_tokens: int) -> int:
        """Compute the cost of the given token counts."""
        return prompt_tokens * self.input_nusd + completion_tokens * self.output_nusd


def nusd_per_token(usd_per_million: str) -> int:
    """Convert dollars per million tokens, such as ``"0.65"``, to nano-dollars per token.

    Raises:
        BadSetting: not a number, negative, above $1 per token (so that any cost fits 64 bits), or finer than $0.001
            per million, which a nano-dollar cannot hold.
    """
    try:
        exact = Decimal(usd_per_million) * NUSD_PER_USD / _TOKENS_PER_QUOTE
    except ArithmeticError:  # not a number, or an exponent out of range
        exact = Decimal("NaN")
    if not exact.is_finite() or not 0 <= exact <= _MAX_PRICE_NUSD or exact != exact.to_integral_value():
        raise BadSetting(
            f"'{usd_per_million}' is not a price: give dollars per million tokens from 0 to {_MAX_PRICE_NUSD // 1000} "
            'in multiples of 0.001, such as "0.65".'
        )
    return int(exact)


def usd(nusd: int) -> str:
    """Format nano-dollars as exact decimal dollars without trailing zeros: ``0.0000924``."""
    text = f"{Decimal(nusd) / NUSD_PER_USD:.9f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def parse_usd(text: str) -> int:
    """Parse a decimal amount in dollars, possibly negative, to nano-dollars without rounding.

    Raises:
        InvalidRequest: not an amount, more than nine decimals, or above MAX_USD.
    """
    if not _USD.fullmatch(text):
        raise InvalidRequest(
            f"'{text[:_MAX_REPEATED_CHARS]}' is not an amount in dollars such as 12.50: use digits, with at most nine "
            "after the point."
        )
    if abs(Decimal(text)) > MAX_USD:
        raise InvalidRequest(f"'{text[:_MAX_REPEATED_CHARS]}' is more than the maximum of {MAX_USD:,} dollars.")
    return int(Decimal(text) * NUSD_PER_USD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Receipt of a prediction: everything needed to recompute its cost."""

    format: int
    prediction_id: str
    account_id: str
    model: str
    price_version: str
    input_nusd: int
    output_nusd: int
    prompt_tokens: int
    completion_tokens: int
    total_nusd: int
    stopped_by: str
    """A ``StoppedBy`` value."""
    tokens_digest: str
    """SHA-256 of the emitted token ids, see ``tokens_digest``."""
    completed_at_ms: int
    weights_id: str | None = None
    """Weights that computed it, see ``EngineInfo.weights_id``. None if nothing was run, or in format 1."""

    @property
    def digest(self) -> str:
        """SHA-256 of the receipt as canonical JSON."""
        text = json.dumps(self._fields(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        """Return the receipt with its digest, as stored and shown."""
        return {**self._fields(), "digest": self.digest}

    def _fields(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if _ADDED_IN.get(name, 1) <= self.format}


def tokens_digest(choices: Iterable[Sequence[int]]) -> str:
    """Compute the SHA-256 of the emitted ids, as decimals joined by ``,`` with choices joined by ``;``."""
    text = ";".join(",".join(map(str, ids)) for ids in choices)
    return hashlib.sha256(text.encode()).hexdigest()


def verify(document: dict[str, Any]) -> list[str]:
    """Recompute a receipt; return one sentence for each mismatch."""
    problems: list[str] = []
    version = document.get("format", RECEIPT_FORMAT)
    if not isinstance(version, int) or isinstance(version, bool) or version not in _FORMATS:
        known = " and ".join(map(str, _FORMATS))
        return [f"The receipt format is {json.dumps(version)}; supported are {known}."]
    names = {field.name for field in fields(Receipt) if _ADDED_IN.get(field.name, 1) <= version}
    if missing := names - document.keys():
        return [f"The receipt lacks {', '.join(sorted(missing))}."]
    receipt = Receipt(**{name: document[name] for name in names})
    numbers = ("input_nusd", "output_nusd", "prompt_tokens", "completion_tokens", "total_nusd")
    for name in numbers:
        value = document[name]
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            problems.append(f"{name} is {value!r}; it must be an integer of 0 or more.")
    if problems:
        return problems
    price = Price(version=receipt.price_version, input_nusd=receipt.input_nusd, output_nusd=receipt.output_nusd)
    total = price.cost_nusd(prompt_tokens=receipt.prompt_tokens, completion_tokens=receipt.completion_tokens)
    if total != receipt.total_nusd:
        problems.append(f"The total is {receipt.total_nusd} nano-dollars; the counts and prices give {total}.")
    if receipt.stopped_by not in list(StoppedBy):
        problems.append(f"stopped_by is '{receipt.stopped_by}', which is not a known reason.")
    if document.get("digest") != receipt.digest:
        problems.append("The digest does not match the receipt's content.")
    return problems
