"""Field types that several doors share: strict, bounded, ``null`` where a field may be left out."""

from decimal import Decimal
from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from corral.api.request_headers import USD_PATTERN, usd_amount
from corral.core.ranges import MAX_USD, Range

T = TypeVar("T")


class Wire(BaseModel):
    """Base of JSON objects: strict types, unknown fields ignored."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, allow_inf_nan=False)


def within(allowed: Range) -> Any:
    """Field constraint for a range, which the JSON Schema shows."""
    return Field(ge=allowed.minimum, le=allowed.maximum, gt=allowed.exclusive_minimum, lt=allowed.exclusive_maximum)


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _usd(value: object) -> Decimal:
    amount = usd_amount(value)
    if amount is None:
        message = "Input should be an amount from 0 to {most} dollars, as a number or as a decimal string"
        raise PydanticCustomError("usd", message, {"most": MAX_USD})
    return amount


WHOLE: Final = BeforeValidator(_whole)
"""Accepts 1.0 for 1."""

LISTED: Final = _listed
"""Wraps one string in a list."""

Usd = Annotated[
    Decimal,
    PlainValidator(_usd),
    WithJsonSchema(
        {"anyOf": [{"type": "number", "minimum": 0, "maximum": MAX_USD}, {"type": "string", "pattern": USD_PATTERN}]}
    ),
]
"""Exact dollars: a JSON number or a decimal string."""
