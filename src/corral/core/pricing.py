"""What tokens cost, in integers: nano-dollars (10^-9 USD), so that $0.65 per million tokens is 650 a token, exactly."""

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
"""Fields that earlier formats do not have."""
_FORMATS: Final = range(1, RECEIPT_FORMAT + 1)
_MAX_PRICE_NUSD: Final = 10**9
_MAX_REPEATED_CHARS: Final = 60
_USD: Final = re.compile(r"-?[0-9]{1,1000}(\.[0-9]{1,9})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What one token of a model costs, in and out."""

    version: str
    """Names this price for ever: ``meta/llama-2-70b-chat@2024-01-01``."""
    input_nusd: int
    output_nusd: int

    def cost_nusd(self, *, prompt_tokens: int, completion_tokens: int) -> int:
        """What so many tokens cost."""
        return prompt_tokens * self.input_nusd + completion_tokens * self.output_nusd


def nusd_per_token(usd_per_million: str) -> int:
    """From a price list's ``"0.65"`` dollars per million tokens to nano-dollars per token.

    Raises:
        BadSetting: not a number, negative, above $1 per token (so that any cost fits 64 bits), or finer than $0.001
            per million, which a nano-dollar cannot hold.
    """
    try:
        exact = Decimal(usd_per_million) * NUSD_PER_USD / _TOKENS_PER_QUOTE
    except ArithmeticError:  # not a number, or an exponent that no Decimal holds
        exact = Decimal("NaN")
    if not exact.is_finite() or not 0 <= exact <= _MAX_PRICE_NUSD or exact != exact.to_integral_value():
        raise BadSetting(
            f"'{usd_per_million}' is not a price: give dollars per million tokens from 0 to {_MAX_PRICE_NUSD // 1000} "
            'in multiples of 0.001, such as "0.65".'
        )
    return int(exact)


def usd(nusd: int) -> str:
    """Exact decimal dollars, without needless zeros: ``0.0000924``."""
    text = f"{Decimal(nusd) / NUSD_PER_USD:.9f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def parse_usd(text: str) -> int:
    """Nano-dollars of a decimal amount in dollars as a person types it, read exactly; it may be negative.

    Raises:
        InvalidRequest: no such amount, finer than a nano-dollar, or beyond MAX_USD.
    """
    if not _USD.fullmatch(text):
        raise InvalidRequest(
            f"'{text[:_MAX_REPEATED_CHARS]}' is no amount in dollars such as 12.50: digits, at most nine of them after "
            "the point."
        )
    if abs(Decimal(text)) > MAX_USD:
        raise InvalidRequest(
            f"'{text[:_MAX_REPEATED_CHARS]}' is more than {MAX_USD:,} dollars, the most that is taken."
        )
    return int(Decimal(text) * NUSD_PER_USD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Everything that is needed to recompute one bill."""

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
    """A StoppedBy."""
    tokens_digest: str
    """SHA-256 of the emitted ids: see ``tokens_digest``."""
    completed_at_ms: int
    weights_id: str | None = None
    """Which weights computed it; see ``EngineInfo.weights_id``. None if none did, or the run is older than format 2."""

    @property
    def digest(self) -> str:
        """SHA-256 over the receipt as canonical JSON; what an auditor compares."""
        text = json.dumps(self._fields(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        """The receipt with its digest, as stored and shown."""
        return {**self._fields(), "digest": self.digest}

    def _fields(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if _ADDED_IN.get(name, 1) <= self.format}


def tokens_digest(choices: Iterable[Sequence[int]]) -> str:
    """SHA-256 of the emitted ids: choices by ``;``, ids in decimal by ``,``."""
    text = ";".join(",".join(map(str, ids)) for ids in choices)
    return hashlib.sha256(text.encode()).hexdigest()


def verify(document: dict[str, Any]) -> list[str]:
    """Recompute a receipt; every sentence returned names something that does not hold."""
    problems: list[str] = []
    version = document.get("format", RECEIPT_FORMAT)
    if not isinstance(version, int) or isinstance(version, bool) or version not in _FORMATS:
        known = " and ".join(map(str, _FORMATS))
        return [f"The format is {json.dumps(version)}; this program knows {known}."]
    names = {field.name for field in fields(Receipt) if _ADDED_IN.get(field.name, 1) <= version}
    if missing := names - document.keys():
        return [f"The receipt lacks {', '.join(sorted(missing))}."]
    receipt = Receipt(**{name: document[name] for name in names})
    numbers = ("input_nusd", "output_nusd", "prompt_tokens", "completion_tokens", "total_nusd")
    for name in numbers:
        value = document[name]
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            problems.append(f"{name} is {value!r}; it must be a whole number that is not negative.")
    if problems:
        return problems
    price = Price(version=receipt.price_version, input_nusd=receipt.input_nusd, output_nusd=receipt.output_nusd)
    total = price.cost_nusd(prompt_tokens=receipt.prompt_tokens, completion_tokens=receipt.completion_tokens)
    if total != receipt.total_nusd:
        problems.append(f"The total is {receipt.total_nusd} nano-dollars; the counts and prices give {total}.")
    if receipt.stopped_by not in list(StoppedBy):
        problems.append(f"'{receipt.stopped_by}' is no reason to stop.")
    if document.get("digest") != receipt.digest:
        problems.append("The digest does not match the receipt's content.")
    return problems
